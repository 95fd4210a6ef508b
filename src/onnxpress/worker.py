"""Worker: one candidate in one process of its own, driven through pipes.

The process is a fresh interpreter (``python -m onnxpress.worker``), neither forked nor made by
``multiprocessing``: threads of frameworks do not survive a fork, and a user's script needs no
``if __name__ == "__main__"``. It has the parent's working folder, environment and ``sys.path``,
and leaves when the parent does, however that ends.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from onnxpress.channel import Channel, Failure
from onnxpress.engine import Executed
from onnxpress.errors import EngineError
from onnxpress.runner import InProcess, Target, forget_peak, open_target, peak_rss_bytes
from onnxpress.signature import Feeds, Signature

LEAVE_S = 5.0
"""How long a process may take to close its session once its parent is gone."""

TICK_S = 1.0
"""How often a waiting parent looks whether the process is alive, and the process whether it is."""


class Worker:
    """A ``Runner`` in a process of its own; a context manager. Made by ``Worker.open``.

    Errors of ours that are raised there are raised here as themselves, any other as
    ``EngineError``, and so are the death of the process and its silence: no call waits for a
    dead process. An interrupted call ends the process, since its answer would be taken for that
    of the next call.
    """

    signature: Signature
    load_ms: float | None

    def __init__(self, name: str, timeout: float | None) -> None:
        self._name, self._timeout, self._dead = name, timeout, ""
        self._lock = threading.Lock()
        self._executed: tuple[Executed, ...] | None = None
        self._stderr: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `kill`
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._process = subprocess.Popen(
            # -P: a file in the working folder must not stand in for a module of ours.
            [sys.executable, "-P", "-m", "onnxpress.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._channel = Channel(
            cast(io.BufferedReader, self._process.stdout),
            cast(io.BufferedWriter, self._process.stdin),
        )
        self._answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        heard = (self._channel, self._answers)
        threading.Thread(target=_listen, args=heard, daemon=True).start()

    @classmethod
    def open(cls, target: Target, timeout: float | None = None) -> Worker:
        """Open ``target`` in a fresh process; ``timeout`` bounds every answer, in seconds.

        Raises what opening raises, ``Unrepeatable`` included: see ``open_target``.
        """
        worker = cls(str(target), timeout)
        try:
            opened = worker._call("open", target)
        except BaseException:
            worker.kill()
            raise
        worker.signature, worker.load_ms = cast(tuple[Signature, float], opened)
        return worker

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return cast(Feeds, self._call("run", feeds))

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        return cast(list[float], self._call("time", feeds, seconds, min_calls, requests))

    def executed(self) -> tuple[Executed, ...]:
        if self._executed is None:  # engines may open the file again for it
            self._executed = cast(tuple[Executed, ...], self._call("executed"))
        return self._executed

    def fallbacks(self) -> tuple[str, ...]:
        return cast(tuple[str, ...], self._call("fallbacks"))

    def peak_rss_bytes(self) -> int | None:
        return cast(int, self._call("peak_rss_bytes"))

    def close(self) -> None:
        """Let the process close its session and leave; end it where it does not."""
        if self._process.poll() is None and not self._lock.locked():
            with contextlib.suppress(OSError):
                cast(io.BufferedWriter, self._process.stdin).close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVE_S + 1)
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._dead = self._dead or f"{self._name}: its process was ended"
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._stderr.close()
        with contextlib.suppress(OSError):  # what was not sent is lost
            cast(io.BufferedWriter, self._process.stdin).close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _call(self, method: str, *arguments: object) -> object:
        with self._lock:
            if self._dead:
                raise EngineError(self._dead)
            try:
                with contextlib.suppress(BrokenPipeError):  # the answer will say of what it died
                    self._channel.send((method, arguments))
                answer = self._answer()
            except BaseException:
                self.kill()
                raise
        if isinstance(answer, Failure):
            raise answer.restored(self._name)
        return answer

    def _answer(self) -> object:
        end = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            left = TICK_S if end is None else min(TICK_S, end - time.monotonic())
            try:
                answer = self._answers.get(timeout=max(left, 0))
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    self._dead = f"{self._name} did not answer within {self._timeout:g} s"
                    raise EngineError(self._dead) from None
                if self._process.poll() is None:
                    continue
                # A process that it left behind can still hold the pipe open.
                answer = None if self._answers.empty() else self._answers.get()
            if isinstance(answer, EOFError | OSError | None):
                raise EngineError(self._obituary())
            if isinstance(answer, Exception):
                raise EngineError(f"{self._name} gave an answer that cannot be read ({answer})")
            return answer

    def _obituary(self) -> str:
        try:
            code = self._process.wait(TICK_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = 0
        how = f"exited with code {code}"
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL), as systems do when memory runs out"
        elif code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4096))
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        self._dead = f"{self._name} {how}" + (f" ({said[-1].strip()[:300]})" if said else "")
        return self._dead


def _listen(channel: Channel, answers: queue.SimpleQueue[object]) -> None:
    """Put every answer into the queue, and at last the error that ended them."""
    try:
        while True:
            answers.put(channel.receive())
    except Exception as error:  # noqa: BLE001  # unpickling raises anything; `_answer` raises it
        answers.put(error)
    channel.incoming.close()


def serve() -> None:
    """Be the process: answer calls until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent decides
    channel = _own_streams()
    with contextlib.ExitStack() as stack:
        runner: InProcess | None = None
        peak = 0
        while True:
            try:
                method, arguments = cast(tuple[str, tuple[object, ...]], channel.receive())
            except EOFError:
                break
            answer: object
            try:
                if method == "open":
                    session, load_ms = open_target(cast(Target, arguments[0]), stack)
                    runner, answer = InProcess(session), (session.signature, load_ms)
                elif method == "peak_rss_bytes":
                    answer = max(peak, peak_rss_bytes())
                elif method == "executed":  # engines may open the file a second time for it
                    peak = max(peak, peak_rss_bytes())
                    answer = cast(InProcess, runner).executed()
                    forget_peak()
                else:
                    answer = getattr(runner, method)(*arguments)
            except Exception as error:  # noqa: BLE001  # the parent raises it
                answer = Failure.of(error)
            channel.send(answer)
            del arguments, answer  # or the next feeds would lie in memory beside these
    os._exit(0)  # teardown of native libraries can hang or crash, and nothing is left to do


def _own_streams() -> Channel:
    """The pipes of the parent, out of reach of whatever prints to stdout or reads stdin."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    threading.Thread(target=_leave_with_parent, args=(incoming,), daemon=True).start()
    return Channel(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))


def _leave_with_parent(incoming: int) -> None:
    """End this process some time after its parent, even in the middle of a run.

    Not by ``PR_SET_PDEATHSIG``: that one strikes when the thread that made the process ends.
    """
    parent, poll = os.getppid(), select.poll()
    poll.register(incoming, 0)  # nothing but the hang-up, which is always reported
    while os.getppid() == parent and not poll.poll(TICK_S * 1e3):
        pass
    time.sleep(LEAVE_S)
    os._exit(1)


if __name__ == "__main__":
    from onnxpress.worker import serve as serve_as_module  # not __main__'s: pickles name classes

    serve_as_module()
