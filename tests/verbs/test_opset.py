"""Opsets: the table agrees with onnx's own, and models move up and down it unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import zoo
from onnxpress import api
from onnxpress.errors import InputError, ModelError
from onnxpress.model import load
from onnxpress.opsets import NEEDS, needs


def test_the_table_is_that_of_onnx() -> None:
    own: dict[int, tuple[str, int]] = {}
    for release, version, opset, *_ in onnx.helper.VERSION_TABLE:
        own.setdefault(opset, (release, version))
    assert {n: (needs.onnx, needs.ir) for n, needs in NEEDS.items()} == {
        n: found for n, found in own.items() if n >= min(NEEDS)
    }


def test_the_installed_runtime_supports_what_the_table_says() -> None:
    import onnxruntime
    from onnx import TensorProto, helper

    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    told = [
        opset
        for opset, needs in NEEDS.items()
        if needs.onnxruntime and tuple(map(int, needs.onnxruntime.split("."))) <= installed
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", *(
        [item] for item in value
    ))  # fmt: skip
    opset = max(told)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = NEEDS[opset].ir
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["cnn", "mlp", "transformer", "transformer_torchscript"])
@pytest.mark.parametrize("to", [15, 17, 20, 21, 23])
def test_up_and_down(name: str, to: int, zoo_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = load(zoo_model(name))
    try:
        result = api.change_opset(model, to)
    except ModelError as error:
        assert to == 15  # LayerNormalization came with 17
        assert "onnxscript: " in str(error) and "onnx: " in str(error)
        return
    assert result.verified is not None
    assert result.verified.ok
    assert result.before == zoo.OPSET
    saved = load(result.model.save(tmp_path / "m.onnx"))
    assert saved.ir.opset_imports[""] == result.opset == to
    assert saved.ir.ir_version == NEEDS[to].ir
    assert saved.signature == model.signature
    onnx.checker.check_model(ir.to_proto(saved.ir), full_check=True)


def test_the_oldest_opsets_and_what_they_lack(
    zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in "xy")
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    old = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [weight]),
        opset_imports=[helper.make_opsetid("", 9)],
        ir_version=4,
    )
    onnx.save(old, tmp_path / "old.onnx")
    result = api.change_opset(tmp_path / "old.onnx", 8)
    assert result.verified is not None
    assert result.verified.ok
    assert result.model.ir.ir_version == 4, "weights are no inputs"
    with pytest.raises(ModelError, match=r"onnx: No (Adapter|Previous Version) [^:]*\)") as caught:
        api.change_opset(zoo_model("transformer"), 11)
    assert "/project/" not in str(caught.value)


def test_the_same_opset_is_the_same_model(zoo_model: Callable[[str], Path]) -> None:
    """But for its IR version, which exporters write newer than the opset needs."""
    lowered = api.change_opset(zoo_model("mlp"), zoo.OPSET)
    assert lowered.model.ir.ir_version == needs(zoo.OPSET).ir
    assert lowered.verified is not None
    assert lowered.verified.ok
    result = api.change_opset(lowered.model, zoo.OPSET)
    assert (result.converter, result.verified) == (None, None)
    assert result.model is lowered.model


def test_an_unknown_opset(zoo_model: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="opset 99; expected 7 to 28"):
        api.change_opset(zoo_model("mlp"), 99)
