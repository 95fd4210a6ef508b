"""Opens ONNX Runtime's sessions, and says in its own words, without the noise, why not."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxpress.custom_ops import FLAG, PACKAGES
from onnxpress.engines._onnxruntime_options import CPU, session_options
from onnxpress.errors import EXTRAS, EngineError, MissingExtra
from onnxpress.settings import Settings

if TYPE_CHECKING:
    import onnxruntime

LOGGED = re.compile(r"^.*?\[\w:onnxruntime:[^\]]*\] (.*\[\w+\] : \d+ : \w+ : )?|\x1b\[[\d;]*m")
FOLDER = re.compile(r"(?<=\s)/\S*/(?=\S)")
UNREGISTERED = re.compile(r"([\w.-]+):(\w+)\(-?\d+\) is not a registered function/op")
UNTOLD = (
    (re.compile(r"^\d+ : [A-Z_]+ : "), ""),
    (re.compile(r"Load model from .*? failed: ?"), ""),
    (re.compile(r"Non-zero .*? running (\w+) node\. Name:'(.*?)' Status Message: "), r"\1 '\2': "),
    (re.compile(r"^(\w+) '': "), r"\1: "),
    (re.compile(r"\S+\.(cc|h):\d+ (([\w:]+ )?\S*::[^ (]*\([^()]*\)( const)?|\w+) "), ""),
    (re.compile(r"\S+ [=<>!]+ \S+ was false\. (?=\w)"), ""),
)
"""Parts of its messages that help nobody who does not read its source code, and what stands there
instead."""


def inference_session(
    artifact: Path, settings: Settings, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    """``artifact`` opened as ``settings`` ask; the graph that it runs goes to ``optimized``.

    Raises ``EngineError`` where ONNX Runtime, the provider or an option refuses.
    """
    provider, options = settings.provider or CPU, session_options(settings)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        # Weights stay out of the dumped graph: only its nodes are read.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "weights.bin"
        )
    if settings.custom_ops is not None:
        _register(options, settings.custom_ops)
    chosen = (provider, dict(settings.provider_options))
    said: list[str] = []
    try:
        with _listening(said) if provider != CPU else contextlib.nullcontext():
            session = _loaded(artifact, options, chosen)
    except Exception as error:  # its errors share no base class
        if isinstance(error, MissingExtra):
            raise
        lacking = UNREGISTERED.search(str(error))
        if lacking is not None:
            operator = f"{lacking[1]}::{lacking[2]}"
            raise _without_operator(artifact, operator, settings.custom_ops) from error
        if provider != CPU:
            raise _not_loaded(provider, _why(said, reason(error))) from error
        raise EngineError(f"onnxruntime cannot load {artifact.name} ({reason(error)})") from error
    if session.get_providers()[0] != provider:
        raise _not_loaded(provider, _why(said, "it does not say why"))
    return session


def _not_loaded(provider: str, why: str) -> EngineError:
    return EngineError(
        f"provider {provider} did not load ({why})", "what it needs: see docs/providers.md"
    )


def fallbacks(session: onnxruntime.InferenceSession) -> tuple[str, ...]:
    """The nodes that the CPU runs in the place of the provider, by the file's names."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before 1.24
        return ()
    return tuple(
        node.name or node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    )


@contextlib.contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """Collects what native code writes to stderr, where providers tell why they do not load."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            said += file.read().decode(errors="replace").splitlines()


def _why(said: Sequence[str], otherwise: str) -> str:
    """The last error among ``said``, or the last warning, without time, source and folders."""
    for mark in ("[E:onnxruntime", "[W:onnxruntime"):
        for line in reversed(said):
            if mark in line:
                return reason(FOLDER.sub("", LOGGED.sub("", line)))
    return otherwise


def _loaded(
    artifact: Path, options: onnxruntime.SessionOptions, provider: tuple[str, dict[str, str]]
) -> onnxruntime.InferenceSession:
    """With the package that has the operators which onnxruntime turns out to lack."""
    try:
        return _open(artifact, options, provider)
    except Exception as error:  # its errors share no base class
        lacking = UNREGISTERED.search(str(error))
        package = PACKAGES.get(lacking[1]) if lacking else None
        if package is None:
            raise
        if importlib.util.find_spec(package) is None:
            purpose = f"has the operators of {artifact.name}"
            raise MissingExtra.of(package, EXTRAS[package], purpose) from error
    library = importlib.import_module(package).get_library_path()
    _register(options, Path(library))
    return _open(artifact, options, provider)


def _open(
    artifact: Path, options: onnxruntime.SessionOptions, provider: tuple[str, dict[str, str]]
) -> onnxruntime.InferenceSession:
    import onnxruntime

    return onnxruntime.InferenceSession(
        str(artifact), options, providers=[provider], enable_fallback=0
    )


def _register(options: onnxruntime.SessionOptions, library: Path) -> None:
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # its errors share no base class
        raise EngineError(
            f"onnxruntime cannot load {library.name} ({reason(error)})",
            "a shared library that exports RegisterCustomOps, built for this machine",
        ) from error


def _without_operator(artifact: Path, operator: str, library: Path | None) -> EngineError:
    if library is not None:
        return EngineError(
            f"{artifact.name} has the operator {operator}, which {library.name} lacks",
            f"a library with {operator}",
            f"give it with {FLAG}",
        )
    return EngineError(
        f"{artifact.name} has the operator {operator}, which onnxruntime lacks",
        "the shared library that has it",
        f"give it with {FLAG} LIB.so",
    )


def reason(error: Exception | str) -> str:
    """ONNX Runtime's message without its error code, the file's folder and its own source code."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    for pattern, instead in UNTOLD:
        text = pattern.sub(instead, text)
    return text[:300]
