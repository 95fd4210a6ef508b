"""Nothing slower and nothing worse is ever chosen, and what is said is so."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import onnxpress
from conftest import Shell
from onnxpress import api
from onnxpress.engine import Form, ModelFacts
from onnxpress.engines.onnxruntime import OnnxRuntime
from onnxpress.machine import Machine
from onnxpress.pressing.result import Pressed
from onnxpress.settings import Settings
from onnxpress.signature import TensorSpec
from zoo.project import PREPROCESS, ROUNDS, Project, press_words


@pytest.fixture
def wrecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """ONNX Runtime also offers forms that are fast and wrong."""
    from onnxpress import registry
    from onnxpress.model import Model
    from onnxpress.recipe import Change, Facts, Pass

    @dataclass(frozen=True)
    class Wreck(Pass):
        """A constant predictor, or classes in another order."""

        rtol = None
        how: str = "constant"

        def rewrite(self, model: Model, facts: Facts) -> Change:
            import onnx_ir as ir

            gemm = next(node for node in model.ir.graph if node.op_type == "Gemm")
            weight = gemm.inputs[1]
            assert weight is not None
            assert weight.const_value is not None
            array = weight.const_value.numpy()
            changed = array * 0 if self.how == "constant" else np.roll(array, 1, axis=0)
            weight.const_value = ir.tensor(changed.copy(), name=weight.name)
            return Change(1)

        @property
        def name(self) -> str:
            return "wreck"

    real_get, real_forms = registry.get, OnnxRuntime.forms
    names = ["wrecked-constant", "wrecked-shuffled"]

    def get(socket: str, name: str, others: Iterable[str] = ()) -> type:
        return Wreck if (socket, name) == ("passes", "wreck") else real_get(socket, name, others)

    def forms(self: OnnxRuntime, model: ModelFacts, machine: Machine) -> list[Form]:
        settings = Settings("onnxruntime")
        return [
            *real_forms(self, model, machine)[:1],
            *(
                Form(name, f"wreck(how={name.removeprefix('wrecked-')})", settings, "float32")
                for name in names
            ),
        ]

    monkeypatch.setattr(registry, "get", get)
    monkeypatch.setattr(OnnxRuntime, "forms", forms)
    yield names


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wrecked")


@pytest.fixture
def output(shelf: Path) -> Path:
    """No bundle is there; what was measured for one with ``wrecked`` is, once it was."""
    shutil.rmtree(shelf / "bundle", ignore_errors=True)
    return shelf / "bundle"


@pytest.mark.usefixtures("one_engine")
class TestHonesty:
    def test_wrong_models_never_hold_the_floor(
        self, project: Project, wrecked: list[str], output: Path
    ) -> None:
        result = api.press(
            project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS, output=output
        )
        assert isinstance(result, Pressed)
        trials = {trial.name: trial for trial in result.candidates}
        for name in wrecked:
            assert not trials[name].ok
            assert "below the floor" in trials[name].reason
            assert trials[name].row is not None
            quality = trials[name].row.quality  # type: ignore[union-attr]
            assert quality is not None
            assert quality.value < 0.3
        assert result.chosen not in wrecked

    def test_nothing_wins_writes_no_bundle(
        self, project: Project, wrecked: list[str], output: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnxpress.pressing.press.fastest", lambda trials: None)
        result = api.press(
            project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS, output=output
        )
        assert isinstance(result, Pressed)
        assert result.chosen is None
        assert result.verdict.startswith("Nothing beats PyTorch eager")
        assert not output.exists()
        assert result.report is not None
        assert result.report.is_file()
        kept = api.press(
            project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS,
            output=output, keep_float=True,
        )  # fmt: skip
        assert isinstance(kept, Pressed)
        with onnxpress.open(output) as predictor:
            assert predictor.form.name == "onnxruntime-float32"

    def test_an_unseeded_factory_is_measured_as_it_was_converted(self, project: Project) -> None:
        result = api.press(
            project.ref.replace(":make", ":unseeded"),
            samples=project.images,
            preprocess=PREPROCESS,
            rounds=ROUNDS,
            floor=0,
        )
        assert isinstance(result, Pressed)
        assert any("another model" in warning for warning in result.warnings)
        row = next(t.row for t in result.candidates if t.name == "onnxruntime-float32")
        assert row is not None
        assert row.quality is not None
        assert row.quality.value > 0.95

    @pytest.mark.usefixtures("in_process")
    def test_a_live_module_without_labels(self, project: Project) -> None:
        paths = list(project.labels)[:120]
        result = api.press(project.module, samples=paths, preprocess=PREPROCESS, rounds=ROUNDS)
        assert isinstance(result, Pressed)
        assert result.samples["labelled"] is False
        for each in result.candidates:
            assert each.row is not None
            assert each.row.quality is not None
            assert "agreement" in each.row.quality.metric
        assert result.floor.value < 0.99
        assert "can prove" in result.floor.note
        assert result.chosen is not None

    @pytest.mark.slow  # as test_onnx.py tells of a press by the command line
    def test_random_samples_are_said_to_be_random(self, project: Project) -> None:
        result = api.press(
            project.ref, samples="random:40", preprocess=PREPROCESS, task="tensor", rounds=ROUNDS
        )
        assert isinstance(result, Pressed)
        assert any("random" in warning for warning in result.warnings)

    @pytest.mark.usefixtures("in_process")
    def test_the_rows_of_a_table_are_a_models_columns(self, tmp_path: Path) -> None:
        rows = np.random.default_rng(0).standard_normal((60, 4))
        lines = [",".join([*map(str, row), "yes"]) for row in rows]
        (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d,answer", *lines]))
        module = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
        )
        spec = TensorSpec("x", "float32", ("batch", 4))
        result = api.press(
            module, samples=tmp_path / "t.csv", label="answer", inputs=[spec], rounds=ROUNDS
        )
        assert isinstance(result, Pressed)
        assert result.task == "tensor"
        assert result.samples["scoring"] == 30

    def test_an_earlier_bundle_that_stays_is_told(
        self, project: Project, wrecked: list[str], output: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def press() -> Pressed:
            result = api.press(
                project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS,
                output=output, keep_float=keep,
            )  # fmt: skip
            assert isinstance(result, Pressed)
            return result

        keep = True
        assert not any("earlier press" in told for told in press().warnings)
        monkeypatch.setattr("onnxpress.pressing.press.fastest", lambda trials: None)
        keep = False
        assert f"the bundle that an earlier press wrote stays in {output}" in press().warnings

    @pytest.mark.usefixtures("in_process")
    def test_labels_that_nothing_uses_are_said(self, tmp_path: Path) -> None:
        arrays = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
        np.savez(tmp_path / "samples.npz", x=arrays, labels=np.arange(40))
        module = torch.nn.Sequential(
            torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)
        )
        spec = TensorSpec("x", "float32", ("batch", 6))
        result = api.press(
            module, samples=tmp_path / "samples.npz", inputs=[spec], rounds=ROUNDS, task="tensor"
        )
        assert any("does not use the samples' labels" in told for told in result.warnings)  # type: ignore[union-attr]


def test_one_engine_only_with_each_step_told(
    project: Project, shell: Shell, quick: None, tmp_path: Path
) -> None:
    code, out, err = shell(
        *press_words(project, tmp_path / "b"), "--engine", "onnxruntime", "--limit", "60", "-v",
        "--floor", "0",
    )  # fmt: skip
    assert code == 0, err
    assert "openvino" not in out
    assert "converting to ONNX" in err
    assert "round 1:" in err
