"""An ONNX model in another format, proven equal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, Session, require
from onnxpress.errors import InputError, writing
from onnxpress.exporter import Exporter
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.verbs.verify import Verified, compare

ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Exported:
    """What was written; ``files`` is empty where the answers differ."""

    format: str
    files: tuple[Path, ...]
    size_bytes: int
    verified: Verified

    def to_dict(self) -> dict[str, object]:
        return {
            "format": self.format,
            "files": [str(path) for path in self.files],
            "size_bytes": self.size_bytes,
            "verified": self.verified.to_dict(),
        }


def export(model: Model, to: str, output: Path, batches: Callable[[], Iterable[Feeds]]) -> Exported:
    """Write ``model`` in format ``to`` and compare it with ONNX Runtime on the ONNX file.

    ``output`` is a file, or a folder to make where it lacks the format's suffix or the format is
    a folder. Nothing is
    written where the answers differ. Raises ``PluginError`` for an unknown format, and as
    ``Exporter.write`` does.
    """
    exporter = registry.create(Exporter, "exporters", to)
    target = _target(exporter, output)
    first = registry.create(Engine, "engines", ENGINE)
    require(first, ENGINE)
    if exporter.engine:
        require(registry.create(Engine, "engines", exporter.engine), exporter.engine)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        source = model.clone().save(Path(folder) / "model.onnx")
        place = Path(folder) / "written" / target.name
        place.parent.mkdir()
        made = exporter.write(source, place)
        with (
            first.open(source, Settings(ENGINE, custom_ops=model.custom_ops)) as one,
            _opened(exporter, place, one.signature, model.custom_ops) as two,
        ):
            verified = compare(one, two, batches())
        if not verified.ok:
            return Exported(to, (), 0, verified)
        size = sum(path.stat().st_size for path in made)
        relative = [path.relative_to(place.parent) for path in made]
        with writing(target):
            _put(place.parent, relative, target, whole=not exporter.suffix)
    return Exported(to, tuple(target.parent / path for path in relative), size, verified)


def _target(exporter: Exporter, output: Path) -> Path:
    """Where the format's main file goes, or the folder that is the format."""
    parent = output.absolute().parent
    if not exporter.suffix:
        if not parent.is_dir():
            raise InputError(
                f"the folder of --output {output} does not exist", "an existing folder"
            )
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise InputError(
                f"--output {output} is a file or a folder that holds some", "a new folder"
            )
        return output
    target = output if output.suffix == exporter.suffix else output / f"model{exporter.suffix}"
    if not target.parent.exists() and not target.parent.absolute().parent.is_dir():
        raise InputError(f"the folder of --output {output} does not exist", "an existing folder")
    if output.is_file() and output != target:
        raise InputError(f"--output {output} is a file", f"a {exporter.suffix} file, or a folder")
    return target


def _opened(
    exporter: Exporter, written: Path, signature: Signature, custom_ops: Path | None
) -> Session:
    """What was written, in the engine that the exporter names or in a session of its own."""
    if not exporter.engine:
        return exporter.open(written, signature)
    engine = registry.create(Engine, "engines", exporter.engine)
    return engine.open(written, Settings(exporter.engine, custom_ops=custom_ops))


def _put(source: Path, files: Iterable[Path], target: Path, *, whole: bool) -> None:
    """Copy ``files`` from ``source`` beside ``target``; it appears last, ``whole`` as a folder.

    All are copied before the first takes its place.
    """
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        copies = Path(name)
        if whole:
            shutil.copytree(source / target.name, copies / target.name)
            (copies / target.name).replace(target)
            return
        every = list(files)
        for path in every:
            shutil.copyfile(source / path, copies / path.name)
        for path in reversed(every):
            (copies / path.name).replace(target.with_name(path.name))
