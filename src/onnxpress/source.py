"""The contract of model readers: a Source recognises a reference and opens it as an Origin."""

from __future__ import annotations

import abc
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from onnxpress import registry
from onnxpress.engine import Session
from onnxpress.errors import InputError, SourceError
from onnxpress.processing import Processing
from onnxpress.signature import Feeds, Signature, TensorSpec

if TYPE_CHECKING:
    from onnxpress.model import Model  # takes half a second, and memory, that no origin needs

Exporter = Literal["auto", "dynamo", "torchscript"]


@dataclass(frozen=True)
class OpenOptions:
    """How a source may open a reference.

    ``inputs`` describe the model's inputs where the model itself does not; failing that, a model
    that takes images is tried with the size that ``processing`` gives. ``trust`` allows formats
    that run code on loading. ``checkpoint`` is a file of weights, ``custom_ops`` a shared library
    with operators of the ONNX model.
    """

    inputs: tuple[TensorSpec, ...] = ()
    processing: Processing | None = None
    checkpoint: Path | None = None
    trust: bool = False
    custom_ops: Path | None = None


@dataclass(frozen=True)
class ExportOptions:
    """How an origin becomes ONNX.

    ``opset`` is what the exporter writes if it can, and otherwise the nearest that it can;
    ``convert`` changes that to the very one. ``shapes`` names the dimensions of inputs by input
    name (a str is a free dimension); ``static`` fixes every dimension to the example's.
    """

    opset: int | None = None
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    static: bool = False
    exporter: Exporter = "auto"

    def __post_init__(self) -> None:
        """Raises ``InputError`` for a size below 1."""
        for name, dims in self.shapes.items():
            if any(isinstance(dim, int) and dim < 1 for dim in dims):
                told = ",".join(map(str, dims))
                raise InputError(f"--shape {name}={told}", "names, and numbers from 1 on")


@dataclass(frozen=True)
class Exported:
    """The model, which exporter made it and, where another was tried first, why that one failed."""

    model: Model
    exporter: str
    fallback_reason: str | None = None


class Origin(abc.ABC):
    """The user's own model, alive: the reference that everything is compared with.

    ``kind`` is the source's name. ``processing`` is what the origin itself knows about its
    inputs (None where it knows nothing). ``baseline`` names what its session runs on, such as
    ``PyTorch eager``.
    """

    exact_fingerprint: ClassVar[bool] = False
    """Whether equal fingerprints mean equal outputs: code that is imported may be in none."""

    kind: str
    baseline: str
    processing: Processing | None = None
    custom_ops: Path | None = None
    """The shared library that the ONNX model needs."""
    compiler: str = ""
    """What ``compiled_session`` runs on, such as ``PyTorch compiled``; empty where none does."""

    @property
    def example(self) -> Feeds | None:
        """Inputs that the origin accepts, where it has some: they show sizes and value ranges."""
        return None

    @property
    def drawn(self) -> frozenset[str]:
        """Names of inputs that take no numbers but such as the example has, in each column.

        Categories in a table: random rows are drawn from the example's values, column by column.
        """
        return frozenset()

    def probes(self, signature: Signature) -> Iterable[Feeds]:
        """Feeds that a conversion is compared on besides random ones, where it is likely to err.

        Values beside the thresholds of trees, categories never seen, missing values.
        """
        return ()

    @abc.abstractmethod
    def session(self, threads: int | None = None) -> Session:
        """The reference itself, on the feeds of the exported model."""

    def compiled_session(self, threads: int | None = None) -> Session:
        """As ``session``, but compiled by the framework's own compiler before this returns.

        Raises ``SourceError`` where that fails, or the framework has none.
        """
        raise SourceError(f"{self.kind} has no compiler of its own", "PyTorch, which has one")

    def pipeline(self, threads: int | None = None) -> Session | None:
        """The framework's own way from records to predictions, with ``pipeline.SIGNATURE``.

        None where it has none: then ours stands around ``session``.
        """
        return None

    @abc.abstractmethod
    def export(self, options: ExportOptions) -> Exported:
        """Convert to ONNX. Raises ``SourceError`` where no exporter can."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that decides the outputs: weights and code."""

    def close(self) -> None:
        """Free what the origin holds."""

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Source(abc.ABC):
    """Reads one kind of reference."""

    api_version: ClassVar[int] = 1

    @abc.abstractmethod
    def accepts(self, ref: object) -> bool:
        """Whether this reference is plainly of this kind: by its type or its file's name."""

    @abc.abstractmethod
    def open(self, ref: object, options: OpenOptions) -> Origin:
        """Raises ``SourceError`` or ``InputError``; ``ref`` comes without the ``KIND:`` prefix."""

    def warm(self, name: str) -> None:
        """Import the framework, so that the time to open a model leaves that out.

        Plug-ins bear the ``name`` of the package that they wrap; those that wrap none import
        nothing.
        """
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def open_source(ref: object, options: OpenOptions | None = None) -> Origin:
    """Open ``KIND:WHERE``, a path or a live object with the source that accepts it.

    Raises ``InputError`` where no source or several accept it.
    """
    options = options or OpenOptions()
    if isinstance(ref, str | Path):
        kind, colon, where = str(ref).partition(":")
        kind = kind.replace("-", "_")
        if (
            colon
            and len(kind) > 1
            and kind.isidentifier()
            and kind not in registry.names("sources")
        ):
            raise InputError(f"unknown source '{kind}'", f"one of {_kinds()}")
        if colon and kind in registry.names("sources"):
            return _opened(kind, where, options)
    known = registry.names("sources")
    found = [name for name in known if registry.create(Source, "sources", name).accepts(ref)]
    if not found:
        shown = ref if isinstance(ref, str | Path) else f"a {type(ref).__name__}"
        if isinstance(ref, str | Path) and Path(ref).is_file() and not Path(ref).stat().st_size:
            raise InputError(f"{ref} is empty", "a file that holds a model")
        raise InputError(f"no source reads {shown}", f"KIND:WHERE with KIND one of {_kinds()}")
    return _opened(found[0], ref, options)


def _kinds() -> str:
    """As they are typed: a plug-in's file has an underscore where people write a hyphen."""
    return ", ".join(name.replace("_", "-") for name in registry.names("sources"))


def _opened(kind: str, ref: object, options: OpenOptions) -> Origin:
    origin = registry.create(Source, "sources", kind).open(ref, options)
    origin.custom_ops = options.custom_ops
    return origin
