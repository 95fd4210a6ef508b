"""Where a press keeps what it made, so that pressing again goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from onnxpress.errors import InputError, OnnxpressError

LOCK = "lock"


class Workspace:
    """A folder of results, each named by a hash of everything that it depends on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Forget everything."""
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def path(self, kind: str, key: str) -> Path:
        """Where the model of this kind and key is, or is to be."""
        return self.folder / f"{kind}-{key}.onnx"

    def read(self, kind: str, key: str) -> dict[str, object] | None:
        """What ``write`` kept; None where it never did, or was interrupted."""
        with contextlib.suppress(OSError, ValueError):
            data = json.loads((self.folder / f"{kind}-{key}.json").read_text(encoding="utf-8"))
            return data if isinstance(data, dict) else None
        return None

    def write(self, kind: str, key: str, data: dict[str, object]) -> None:
        """Keep ``data``, whole or not at all."""
        path = self.folder / f"{kind}-{key}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(data), encoding="utf-8")
        Path(temporary).replace(path)


@contextlib.contextmanager
def workspace(output: Path | None) -> Iterator[Workspace]:
    """The hidden folder beside ``output``, or a temporary one.

    Kept when the work is interrupted. Removed again where it is new and the user's input turns
    out wrong before anything was measured: then nothing is left behind. Raises ``InputError``
    where another press works in it, or where it cannot be written.
    """
    if output is None:
        with tempfile.TemporaryDirectory(prefix="onnxpress-") as name:
            yield Workspace(Path(name))
        return
    output = output.resolve()
    folder = output.parent / f".{output.name}.press"
    new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write beside {output} ({error.strerror})", "a folder that can be written"
        ) from error
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another press is writing {output}", "one at a time", "wait for it or give another -o"
        ) from error
    try:
        yield Workspace(folder)
    except OnnxpressError:
        if new and not any(folder.glob("measured-*.json")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def key_of(*parts: object) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts' text."""
    text = "\n".join(repr(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
