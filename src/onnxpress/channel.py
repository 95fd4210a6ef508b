"""Channel: how two processes of ours talk through pipes, arrays and errors included."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import traceback
from dataclasses import dataclass
from typing import cast

from onnxpress.errors import EngineError, OnnxpressError


class Channel:
    """Messages as pickles behind their lengths; arrays travel beside the pickle, uncopied."""

    def __init__(self, incoming: io.BufferedReader, outgoing: io.BufferedWriter) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, message: object) -> None:
        arrays: list[pickle.PickleBuffer] = []
        body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
        parts = [memoryview(body), *(array.raw() for array in arrays)]
        sizes = [part.nbytes for part in parts]
        self.outgoing.write(struct.pack(f"<Q{len(sizes)}Q", len(sizes), *sizes))
        for part in parts:
            self.outgoing.write(part)
        self.outgoing.flush()

    def receive(self) -> object:
        """The next message; its arrays can be written to. Raises ``EOFError`` at the end."""
        (count,) = struct.unpack("<Q", self._read(8))
        sizes = struct.unpack(f"<{count}Q", self._read(8 * count))
        body, *arrays = [self._read(size) for size in sizes]
        return cast(object, pickle.loads(body, buffers=arrays))

    def _read(self, size: int) -> bytearray:
        data, done = bytearray(size), 0
        while done < size:
            count = self.incoming.readinto(memoryview(data)[done:])
            if not count:
                raise EOFError
            done += count
        return data


@dataclass(frozen=True)
class Failure:
    """An error as it crosses the pipe: pickled apart, since its class may not exist there."""

    pickled: bytes
    text: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        try:
            pickled = pickle.dumps(error if isinstance(error, OnnxpressError) else None)
        except Exception:  # noqa: BLE001  # whatever its attributes raise, the text remains
            pickled = b""
        first = (str(error).strip().splitlines() or [""])[0]
        trace = "".join(traceback.format_exception(error))
        return cls(pickled, f"{type(error).__name__}: {first}", trace)

    def restored(self, name: str) -> OnnxpressError:
        """The error, with the traceback of the other process as a note."""
        error: object = None
        with contextlib.suppress(Exception):  # as above
            error = pickle.loads(self.pickled)
        if not isinstance(error, OnnxpressError):
            error = EngineError(f"{name} failed ({self.text})")
        error.add_note(self.trace)
        return error
