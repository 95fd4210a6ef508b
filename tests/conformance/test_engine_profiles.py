"""Every engine with a profiler tells its kernels; any other one says in a line that it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.errors import EngineError
from onnxpress.model import load
from onnxpress.settings import Settings

NAMES = [
    name
    for name in registry.names("engines")
    if registry.create(Engine, "engines", name).available().ok
]
TELLING = [name for name in NAMES if name != "null"]


def created(name: str) -> Engine:
    return registry.create(Engine, "engines", name)


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_or_says_that_it_does_not(name: str, zoo_model: Callable[[str], Path]) -> None:
    path = zoo_model("mlp")
    feeds = zoo.feeds(path, 2)
    if type(created(name)).profile is Engine.profile:
        with pytest.raises(EngineError, match=f"engine {name} does not tell where its time goes"):
            created(name).profile(path, Settings(name), feeds, 3)
        return
    assert created(name).profile(path, Settings(name, threads=1), feeds, 3).kernels


@pytest.mark.parametrize("name", TELLING)
@pytest.mark.parametrize("model", ["cnn", "lstm", "transformer"])
def test_kernels_are_told_once_each(
    name: str, model: str, zoo_model: Callable[[str], Path]
) -> None:
    path = zoo_model(model)
    found = created(name).profile(path, Settings(name, threads=1), zoo.feeds(path, 2), 6)
    assert found.runs == 6
    assert found.run_ms > 0
    names = [kernel.name for kernel in found.kernels]
    assert len(set(names)) == len(names)
    assert all(kernel.ms >= 0 and kernel.calls == 1 and kernel.op for kernel in found.kernels)
    assert sum(kernel.ms for kernel in found.kernels) > 0
    assert {event.name for event in found.events} == set(names)
    assert all(event.start_ms >= 0 and event.ms >= 0 for event in found.events)
    with created(name).open(path, Settings(name, threads=1)) as session:
        assert len(names) <= len(session.executed()), "some are not run, none runs unseen"
    own = {node.name for node in load(path).nodes()}
    assert own & {layer for kernel in found.kernels for layer in kernel.layers}


@pytest.mark.parametrize("name", TELLING)
def test_settings_count_and_refusals_are_a_line(
    name: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    path = zoo_model("mlp")
    feeds = zoo.feeds(path, 1)
    with pytest.raises(EngineError):
        created(name).profile(path, Settings(name, options={"no_such_option": "1"}), feeds, 3)
    with pytest.raises(EngineError, match="failed to run"):
        wrong = {key: np.zeros((1, 1, 1, 1), np.float32) for key in feeds}
        created(name).profile(path, Settings(name), wrong, 3)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model")
    with pytest.raises(EngineError, match=r"cannot load broken\.onnx") as caught:
        created(name).profile(broken, Settings(name), feeds, 3)
    assert "\n" not in str(caught.value)
