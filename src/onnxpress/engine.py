"""The contract of what executes a model: Engine opens files, Session runs them, Form is a try."""

from __future__ import annotations

import abc
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from onnxpress.errors import EngineError
from onnxpress.machine import Machine
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature


@dataclass(frozen=True)
class Availability:
    """Whether an engine can be used here. Where it cannot, ``reason`` says what to install."""

    ok: bool
    reason: str = ""
    version: str = ""
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A recipe plus settings that is worth trying on one engine.

    ``recipe`` is the text of a Recipe, applied to the optimised float32 model; empty for none, and
    where ``scheme`` names a scheme of quantisation, whose best recipe is then sought.
    ``requested`` is the precision that is asked for: ``float32``, ``bfloat16``, ``int8``.
    ``requires_isa`` holds groups of instruction sets: the form pays off (or is right) only where
    the CPU has one of each group.
    """

    name: str
    recipe: str
    settings: Settings
    requested: str
    requires_isa: tuple[tuple[str, ...], ...] = ()
    scheme: str = ""


@dataclass(frozen=True)
class Knob:
    """One thing about an engine's sessions that ``tune`` may try otherwise.

    Each of ``values`` is what it changes, as ``Settings.changed`` takes it; the engine's default is
    none of them. All must respect the cores that a ``Machine`` grants.
    """

    name: str
    values: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class ModelFacts:
    """What an engine may look at when it says its forms, without opening the graph.

    ``ops`` counts operators by type, subgraphs included; ``weights`` counts the constant
    right-hand sides of each of them (``{"MatMul": 12}``: twelve MatMuls by a weight).
    """

    signature: Signature
    ops: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def mostly_linear(self) -> bool:
        """Whether products with weights outnumber convolutions: a transformer or an MLP.

        Only those gain where engines quantise the activations of MatMul and Gemm at run time.
        """
        linear = self.weights.get("MatMul", 0) + self.weights.get("Gemm", 0)
        return linear > self.weights.get("Conv", 0)


@dataclass(frozen=True)
class Executed:
    """One kernel that a session really runs: after the engine's own optimisation.

    ``layers`` are the names of the file's nodes that it stands for (may be empty);
    ``precision`` is the type of its arithmetic: ``float32``, ``bfloat16``, ``int8``, ….
    """

    name: str
    op: str
    precision: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timed:
    """One kernel of a profiled session, with its time in a typical run.

    ``ms`` is its own time in one run, all ``calls`` of it together; what ran inside it (the body
    of a Loop) has entries of its own and is not counted here. ``layers`` are names of the file's
    nodes, or of values that nodes make: hints of what it stands for. ``readers`` are the kernels
    that read what it makes. ``precision`` is the type of its arithmetic, ``implementation`` the
    engine's own word for its code, ``bytes`` what it reads and writes in one run (None: untold).
    """

    name: str
    op: str
    provider: str
    ms: float
    calls: int = 1
    layers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    precision: str = ""
    implementation: str = ""
    bytes: int | None = None


@dataclass(frozen=True)
class Event:
    """One execution of the kernel called ``name``, in milliseconds since its run began."""

    name: str
    start_ms: float
    ms: float
    thread: int = 0


@dataclass(frozen=True)
class Timeline:
    """Where the time of a session goes: what ``Engine.profile`` gives.

    ``run_ms`` is a typical run with the profiler on, ``runs`` how many counted, ``events`` are
    those of one run and ``method`` says how ``Timed.ms`` was got.
    """

    kernels: tuple[Timed, ...]
    run_ms: float
    runs: int
    events: tuple[Event, ...]
    method: str


class Session(abc.ABC):
    """An opened model. A context manager; ``run`` and ``submit`` may be called from any thread."""

    signature: Signature

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """Outputs by name, in the signature's order.

        The caller owns both the feeds and the returned arrays: no later call overwrites them.
        Raises ``SamplesError`` where the feeds do not fit the signature, ``EngineError`` where
        the engine fails.
        """
        self.signature.check(feeds)
        outputs = self._run({name: _native(array) for name, array in feeds.items()})
        return {spec.name: outputs[spec.name] for spec in self.signature.outputs}

    def submit(self, feeds: Mapping[str, np.ndarray]) -> Future[Feeds]:
        """Start ``run`` on another thread. Closing the session waits for it."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="onnxpress")
            return self._pool.submit(self.run, feeds)

    def executed(self) -> tuple[Executed, ...]:
        """The kernels that run, or ``()`` where the engine does not tell."""
        return ()

    def fallbacks(self) -> tuple[str, ...]:
        """Names of the nodes that run elsewhere than on the provider that was asked for."""
        return ()

    def close(self) -> None:
        """Wait for runs under way, then free what the engine holds. Closing twice is harmless."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """As ``run``, with feeds that fit the signature."""


def _native(array: np.ndarray) -> np.ndarray:
    """``array`` as engines read it: in this machine's byte order, a scalar as an array too."""
    if type(array) is np.ndarray and array.dtype.isnative:  # the usual ones cost nothing
        return array
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class Engine(abc.ABC):
    """What executes models. Stateless; the engine's package is imported only when used."""

    api_version: ClassVar[int] = 1
    bundle_options: ClassVar[frozenset[str]] = frozenset()
    """The options that a bundle may set: none that names a file or loads a library."""
    runs_custom_ops: ClassVar[bool] = False
    """Whether it runs operators of ``Settings.custom_ops`` and of packages for ONNX Runtime."""

    @abc.abstractmethod
    def available(self) -> Availability:
        """Yes, or why not and what to install. Never raises."""

    def check(self, settings: Settings) -> None:
        """Raise ``EngineError`` for a provider, device or option that there is not.

        For those who want to know before there is a file to ``open``, which checks as well.
        """

    @abc.abstractmethod
    def forms(self, model: ModelFacts, machine: Machine) -> Sequence[Form]:
        """What is worth trying here for this model, float32 first."""

    def knobs(self, machine: Machine, objective: str) -> Sequence[Knob]:
        """What is worth trying otherwise here, for ``latency`` or ``throughput``."""
        return ()

    @abc.abstractmethod
    def open(self, artifact: Path, settings: Settings) -> Session:
        """Load a file. Raises ``EngineError`` where the engine, provider or an option refuses."""

    def profile(
        self, artifact: Path, settings: Settings, feeds: Feeds, runs: int, warm_up: int = 3
    ) -> Timeline:
        """Where the time goes in ``runs`` runs of a file, after ``warm_up`` that do not count.

        Raises ``EngineError`` where the engine does not tell, or refuses the file or the feeds.
        """
        raise EngineError(
            f"engine {settings.engine} does not tell where its time goes",
            "an engine with a profiler, such as onnxruntime or openvino",
        )


def require(engine: Engine, name: str) -> None:
    """Raise ``EngineError`` where ``engine`` is not available."""
    state = engine.available()
    if not state.ok:
        raise EngineError(f"engine '{name}' is not available", "", state.reason)
