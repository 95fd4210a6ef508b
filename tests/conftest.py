"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from zoo.digits import Digits
    from zoo.project import Project

# How long an example takes says how busy the machine is.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")

Shell = Callable[..., tuple[int, str, str]]
"""Words of a command line → exit code, stdout and stderr."""


def pytest_configure() -> None:
    """One thread for OpenMP, before any framework starts its own; programs inherit it.

    Frameworks of two test processes on two cores wait for each other's threads otherwise, ten
    times as long as they compute. What measures threads sets their number itself.

    Interrupts reach the programs that tests start, even where a script runs the tests with &.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def zoo_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``zoo_model(name)``: the path of a model of the zoo, exported once a session."""
    import zoo

    folder = tmp_path_factory.mktemp("zoo")
    return lambda name: zoo.build(name, folder)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A trained classifier and its images, made once a session."""
    from zoo.networks import one_thread
    from zoo.project import build

    with one_thread():
        return build(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def project_onnx(project: Project) -> Path:
    """The classifier of ``project`` as an ONNX file."""
    from onnxpress import api
    from zoo.project import PREPROCESS

    model = api.convert(project.ref, preprocess=PREPROCESS).model
    return model.save(project.folder / "net.onnx")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A network that is trained on digits, and those it has not seen, made once a session."""
    from zoo.digits import build
    from zoo.networks import one_thread

    with one_thread():
        return build(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """``installed(entry_points, module=text, …)`` puts a distribution on ``sys.path``."""
    from zoo.plugins import distribution

    def install(entry_points: str, **modules: str) -> None:
        monkeypatch.syspath_prepend(distribution(tmp_path / "site", entry_points, **modules))

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugpack"]:
        del sys.modules[name]


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """``shell(*words)`` runs a command in this process, in an empty folder, 80 columns wide."""
    from onnxpress import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(word) for word in words])
        code = stopped.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short warm-up and few rounds: for tests that are not about time."""
    from onnxpress.verbs.measure import measure

    monkeypatch.setattr("onnxpress.verbs.measure.WARM_LIMIT_S", 0.2)
    monkeypatch.setattr("onnxpress.verbs.comparison.measure", functools.partial(measure, rounds=5))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, quick: None) -> Iterator[None]:
    """Quick, without processes of its own: for tests that are not about these either."""
    from onnxpress.engine import Session
    from onnxpress.runner import InProcess, Target, open_target

    with contextlib.ExitStack() as stack:

        def opened(target: Target | Session) -> InProcess:
            session = target if isinstance(target, Session) else open_target(target, stack)[0]
            return InProcess(session)

        for verb in ("verbs.measure", "verbs.comparison", "verbs.profile", "pressing.trial"):
            monkeypatch.setattr(f"onnxpress.{verb}.open_runner", opened)
        yield


@pytest.fixture
def small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peak in a moment: for tests that are not about how fast the machine is."""
    monkeypatch.setattr("onnxpress.verbs.peak.SECONDS", 0.01)
    monkeypatch.setattr("onnxpress.verbs.peak.SIDES", (128,))


@pytest.fixture
def one_engine(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """Quick, and only ONNX Runtime is there: for tests that are not about engines either."""
    from onnxpress import registry

    known = registry.names

    def names(socket: str) -> tuple[str, ...]:
        return ("onnxruntime",) if socket == "engines" else known(socket)

    monkeypatch.setattr(registry, "names", names)


@pytest.fixture
def external(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything larger than 1 kB goes to external data."""
    from onnxpress import model

    monkeypatch.setattr(model, "EXTERNAL_DATA_BYTES", 1000)
