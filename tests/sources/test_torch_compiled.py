"""The original as torch.compile makes it: the same answers, in a worker too, or a plain reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Shell
from onnxpress import api
from onnxpress.errors import InputError, SourceError
from onnxpress.runner import Artifact
from onnxpress.settings import Settings
from onnxpress.source import OpenOptions, Origin
from onnxpress.sources._torch.origin import open_origin
from onnxpress.verbs.thing import Thing

FACTORY = """
import torch

def make():
    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)
    return torch.nn.Sequential(*layers), torch.zeros(2, 8)
"""


def origin(module: torch.nn.Module) -> Origin:
    return open_origin((module, torch.zeros(2, 8)), OpenOptions())


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))


@pytest.mark.slow
def test_compiled_it_answers_the_same() -> None:
    with (
        origin(net()) as opened,
        opened.session() as eager,
        opened.compiled_session(1) as session,
    ):
        (kernel,) = session.executed()
        assert (kernel.op, kernel.precision) == ("compiled", "float32")
        assert session.signature == eager.signature
        for rows in (2, 1, 5):
            x = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
            feeds = {eager.signature.inputs[0].name: x}
            (given,), (made,) = eager.run(feeds).values(), session.run(feeds).values()
            np.testing.assert_allclose(made, given, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever inductor kept of an earlier test must not stand in for the compiler."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "force_disable_caches", True)
    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    torch._dynamo.reset()
    expected = r"torch.compile cannot compile Sequential \(.*ompiler.*\); expected a C\+\+ compiler"
    try:
        with origin(net()) as opened, pytest.raises(SourceError, match=expected):
            opened.compiled_session(1)
    finally:
        torch._dynamo.reset()


def test_what_is_not_compiled_is_not_called_so() -> None:
    traced = torch.jit.trace(net(), torch.zeros(2, 8))
    with origin(traced) as opened, pytest.raises(SourceError, match="runs as it is"):
        opened.compiled_session()


def test_a_file_has_none() -> None:
    thing = Thing("net.onnx", Artifact(Path("net.onnx"), Settings("null")), "null", "", 0)
    with pytest.raises(InputError, match=r"--compile with net.onnx; expected a PyTorch reference"):
        thing.compiled()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_original_twice_side_by_side(shell: Shell, tmp_path: Path) -> None:
    """Each in a process of its own; compiling counts as loading."""
    (tmp_path / "small.py").write_text(FACTORY)
    api.convert("torch:small.py:make").model.save(tmp_path / "small.onnx")
    code, out, _ = shell(
        "bench", "small.onnx", "--against", "torch:small.py:make", "--samples", "random:16",
        "--compile", "--batch", "1,4", "--rounds", "5", "--json",
    )  # fmt: skip
    assert code == 0
    result = json.loads(out)
    names = [f"torch:small.py:make (PyTorch {how})" for how in ("eager", "compiled")]
    assert [row["name"] for row in result["rows"]] == [*names, "small.onnx on onnxruntime"] * 2
    eager, compiled = result["rows"][:2]
    assert compiled["load_ms"] > 2 * eager["load_ms"]
    assert compiled["latency_ms"]["typical"] < compiled["load_ms"] / 10
    assert compiled["quality"]["value"] == pytest.approx(1, abs=1e-6)
