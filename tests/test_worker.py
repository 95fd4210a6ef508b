"""Workers answer, fail, die and leave as promised, whatever the code inside them does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxpress
from onnxpress.errors import EngineError, ModelError, SamplesError
from onnxpress.runner import Artifact, OriginRef, Unrepeatable
from onnxpress.settings import Settings
from onnxpress.verbs.executed import summary
from onnxpress.worker import Worker

FAKES = """
import os, resource, signal, subprocess, sys, time
import numpy as np
from onnxpress.engine import Availability, Engine, Session
from onnxpress.errors import EngineError
from onnxpress.signature import Signature, TensorSpec

class Fake(Engine):
    def available(self):
        return Availability(True)
    def forms(self, model, machine):
        return ()
    def open(self, artifact, settings):
        if settings.options["do"] == "refuse":
            raise EngineError("no", "yes", "try again")
        return FakeSession(settings.options["do"])

class FakeSession(Session):
    def __init__(self, do):
        super().__init__()
        self.do = do
        spec = lambda name: TensorSpec(name, "float32", None)
        self.signature = Signature((spec("x"),), (spec("y"),))
    def _run(self, feeds):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        match self.do:
            case "exit":
                print("the last words", file=sys.stderr, flush=True)
                os._exit(7)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "out of memory":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave a child behind":
                if os.fork():
                    os._exit(3)
                time.sleep(6)
                os._exit(0)
            case "hang":
                open("hanging", "w").close()
                time.sleep(1000)
            case "raise":
                raise ValueError("first line\\nsecond line")
            case "chatter":
                print("hello", flush=True)
                subprocess.run(["echo", "from a child"])
                assert sys.stdin.read() == ""
        return {"y": feeds["x"]}
    def executed(self):
        np.ones(200 << 20, np.uint8)
        return ()
"""

ORIGINS = """
import uuid
from fakes import FakeSession
from onnxpress.source import Origin, Source

class Coin(Source):
    def accepts(self, ref):
        return False
    def open(self, ref, options):
        return CoinOrigin(ref)

class CoinOrigin(Origin):
    kind, baseline = "coin", "a coin"
    def __init__(self, ref):
        self.ref = ref
    def session(self, threads=None):
        return FakeSession("echo")
    def export(self, options):
        raise AssertionError
    def fingerprint(self):
        return uuid.uuid4().hex if self.ref == "random" else self.ref
"""

X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture(autouse=True)
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another package brings an engine ``fake`` and a source ``coin``."""
    package = tmp_path / "site"
    info = package / "fakes-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "fakes.py").write_text(FAKES)
    (package / "origins.py").write_text(ORIGINS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[onnxpress.engines]\nfake = fakes:Fake\n[onnxpress.sources]\ncoin = origins:Coin\n"
    )
    monkeypatch.syspath_prepend(package)
    return package


def fake(do: str) -> Artifact:
    return Artifact(Path("model.onnx"), Settings("fake", options={"do": do}))


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """The model y = x · w, float32 (n, 3) → (n, 2)."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [1, 2, 3, 4, 5, 6])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight],
    )
    path = tmp_path / "product.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_it_runs_a_model_as_this_process_would(product: Path, engine: str) -> None:
    with Worker.open(Artifact(product, Settings(engine, threads=1))) as worker:
        assert [spec.name for spec in worker.signature.inputs] == ["x"]
        np.testing.assert_allclose(worker.run(X)["y"], X["x"] @ [[1, 2], [3, 4], [5, 6]])
        assert summary(worker.executed()) == "float32"
        calls = worker.time(X, seconds=0.0, min_calls=4)
        assert len(calls) == 4
        assert all(call > 0 for call in calls)
        assert len(worker.time(X, seconds=0.05)) > 4
        assert worker.load_ms is not None
        assert worker.load_ms > 0


def test_memory_is_that_of_the_fresh_process() -> None:
    ballast = np.ones(300 << 20, np.uint8)
    with Worker.open(fake("echo")) as worker:
        before = worker.peak_rss_bytes()
        assert before is not None
        assert 10 << 20 < before < ballast.nbytes
        worker.time({"x": np.ones((50 << 20) // 4, np.float32)}, 0.0)
        after = worker.peak_rss_bytes()
        assert after is not None
        assert 45 << 20 < after - before < 150 << 20
        worker.executed()
        assert worker.peak_rss_bytes() == after


def test_large_arrays_arrive_whole_and_belong_to_the_caller() -> None:
    feeds = {"x": np.random.default_rng(0).random((25_000, 1000), np.float32)}  # 100 MB
    with Worker.open(fake("echo")) as worker:
        outputs = worker.run(feeds)
        np.testing.assert_array_equal(outputs["y"], feeds["x"])
        outputs["y"] += 1
        np.testing.assert_array_equal(worker.run(feeds)["y"], feeds["x"])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.float32(3).reshape(()),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24, dtype=np.float32)[::2],
    ],
    ids=["empty", "scalar", "transposed", "strided"],
)
def test_any_layout_of_array_crosses(array: np.ndarray) -> None:
    with Worker.open(fake("echo")) as worker:
        np.testing.assert_array_equal(worker.run({"x": array})["y"], array)


def test_what_the_code_prints_or_reads_does_not_disturb() -> None:
    with Worker.open(fake("chatter")) as worker:
        for _ in range(3):
            np.testing.assert_array_equal(worker.run(X)["y"], X["x"])


def test_errors_of_ours_arrive_as_themselves(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        Worker.open(fake("refuse"))
    assert str(caught.value) == "no; expected yes; try again"
    assert (caught.value.found, caught.value.fix) == ("no", "try again")
    assert "fakes.py" in caught.value.__notes__[0]
    missing = Artifact(tmp_path / "none.onnx", Settings("null"))
    with pytest.raises(ModelError, match=r"none\.onnx does not exist"):
        Worker.open(missing)
    with Worker.open(fake("echo")) as worker:
        with pytest.raises(SamplesError, match="lack input 'x'"):
            worker.run({})
        np.testing.assert_array_equal(worker.run(X)["y"], X["x"])


def test_other_errors_tell_their_type_and_first_line_and_do_not_end_it() -> None:
    with Worker.open(fake("raise")) as worker:
        for _ in range(2):
            with pytest.raises(EngineError) as caught:
                worker.run(X)
            assert str(caught.value) == "model.onnx on fake failed (ValueError: first line)"


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("exit", "exited with code 7 (the last words)"),
        ("segfault", "crashed (SIGSEGV)"),
        ("out of memory", "was killed (SIGKILL), as systems do when memory runs out"),
        ("leave a child behind", "exited with code 3"),
    ],
)
def test_a_death_is_an_error_and_not_a_hang(do: str, message: str) -> None:
    with Worker.open(fake(do)) as worker:
        for _ in range(2):
            with pytest.raises(EngineError) as caught:
                worker.run(X)
            assert str(caught.value) == f"model.onnx on fake {message}"
    assert worker._process.poll() is not None


def test_a_silent_process_is_ended_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Worker.open(fake("hang"), timeout=5) as worker:
        with pytest.raises(EngineError, match="did not answer within 5 s"):
            worker.run(X)
        assert worker._process.poll() is not None


def test_threads_wait_for_each_other_and_workers_do_not() -> None:
    def ask(worker: Worker, value: float) -> float:
        return float(worker.run({"x": np.full((4, 4), value, np.float32)})["y"].mean())

    with (
        Worker.open(fake("echo")) as one,
        Worker.open(fake("echo")) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        values = [float(value) for value in range(40)]
        answers = pool.map(lambda value: ask((one, two)[int(value) % 2], value), values)
        assert list(answers) == values


def test_a_worker_outlives_the_thread_that_opened_it() -> None:
    opened: list[Worker] = []
    thread = threading.Thread(target=lambda: opened.append(Worker.open(fake("echo"))))
    thread.start()
    thread.join()
    time.sleep(0.2)
    with opened[0] as worker:
        np.testing.assert_array_equal(worker.run(X)["y"], X["x"])


def test_a_closed_worker_says_so() -> None:
    worker = Worker.open(fake("echo"))
    worker.close()
    worker.close()
    assert worker._process.returncode == 0
    with pytest.raises(EngineError, match="its process was ended"):
        worker.run(X)


def test_a_file_in_the_working_folder_does_not_shadow_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    with Worker.open(fake("echo")) as worker:
        assert worker.run(X).keys() == {"y"}


def origin(ref: str, fingerprint: str) -> OriginRef:
    from onnxpress.source import OpenOptions

    return OriginRef(ref, OpenOptions(), None, fingerprint)


def test_an_origin_is_opened_again_by_reference() -> None:
    with Worker.open(origin("coin:heads", "heads")) as worker:
        np.testing.assert_array_equal(worker.run(X)["y"], X["x"])


def test_an_origin_that_differs_each_time_is_refused() -> None:
    with pytest.raises(Unrepeatable, match="coin:random builds another model each time"):
        Worker.open(origin("coin:random", "0123"))


@dataclass
class Script:
    process: subprocess.Popen[str]
    pids: list[int]


@pytest.fixture
def script(fakes: Path, tmp_path: Path) -> Iterator[Script]:
    """A program without a ``__main__`` guard, busy with one of its two workers."""
    path = tmp_path / "program.py"
    path.write_text("""
from pathlib import Path
from onnxpress.runner import Artifact
from onnxpress.settings import Settings
from onnxpress.verbs.executed import summary
from onnxpress.worker import Worker
import numpy as np
print("started", flush=True)
target = lambda do: Artifact(Path("m.onnx"), Settings("fake", options={"do": do}))
with Worker.open(target("echo")) as idle, Worker.open(target("hang")) as busy:
    print(idle._process.pid, busy._process.pid, flush=True)
    busy.run({"x": np.ones(3, np.float32)})
""")
    source = Path(onnxpress.__path__[0]).parent
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(fakes)])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        pids = [int(pid) for pid in process.stdout.readline().split()]
        while not (tmp_path / "hanging").exists():
            time.sleep(0.01)
        yield Script(process, pids)
        process.kill()


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def all_gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if all(gone(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_leaves_no_process(script: Script) -> None:
    script.process.send_signal(signal.SIGINT)
    _, errors = script.process.communicate(timeout=30)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert len(script.pids) == 2
    assert all_gone(script.pids, 5)


def test_a_killed_parent_leaves_no_process(script: Script) -> None:
    script.process.kill()
    script.process.wait(30)
    assert not gone(script.pids[1])
    assert all_gone(script.pids, 30)
