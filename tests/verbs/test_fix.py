"""optimize --fix: free dimensions become numbers, through the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.model import load
from onnxpress.verbs.fix import fix


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp", "transformer", "transformer_torchscript"])
def test_the_batch_is_fixed_all_through(
    name: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    result = api.optimize(zoo_model(name), fix={"batch": 3})
    assert result.verified.ok
    model = load(result.model.save(tmp_path / "m.onnx"))
    specs = (*model.signature.inputs, *model.signature.outputs)
    assert all(spec.shape is not None and "batch" not in spec.shape for spec in specs)
    assert {spec.shape[0] for spec in specs if spec.shape} == {3}
    assert all(case.shapes["input"][0] == 3 for case in result.verified.cases)


def test_all_dimensions_fixed_leave_no_unknown_shape(zoo_model: Callable[[str], Path]) -> None:
    fixed = fix(load(zoo_model("transformer")), {"batch": 2, "length": 9})
    for node in fixed.nodes():
        for value in node.outputs:
            assert value.shape is not None
            assert all(isinstance(dim, int) for dim in value.shape), node


def test_others_stay_free(zoo_model: Callable[[str], Path]) -> None:
    model = load(zoo_model("transformer"))
    fixed = fix(model, {"length": 9})
    assert fixed.signature.inputs[0].shape == ("batch", 9)
    assert model.signature.inputs[0].shape == ("batch", "length")


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"bach": 1}, "--fix bach=1; expected one of batch, length"),
        ({"batch": 0}, "--fix batch=0; expected a number of at least 1"),
    ],
)
def test_what_cannot_be_fixed(
    sizes: dict[str, int], told: str, zoo_model: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=told):
        api.optimize(zoo_model("transformer"), fix=sizes)
