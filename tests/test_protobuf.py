"""A file that is written piece by piece holds the same message as one that protobuf writes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpress import protobuf

RNG = np.random.default_rng(0)
ARRAYS = {
    "large": RNG.standard_normal((200, 100)).astype(np.float32),
    "huge": np.arange(3_000_000, dtype=np.int64),
    "half": RNG.standard_normal(40_000).astype(np.float16),
    "brain": RNG.standard_normal(40_001).astype(ml_dtypes.bfloat16),
    "nibbles": RNG.integers(-8, 8, 200_001).astype(ml_dtypes.int4),
    "truths": RNG.integers(0, 2, 70_000).astype(bool),
    "small": np.float32([1, 2]),
    "scalar": np.array(7, np.int64),
    "empty": np.empty((0, 3), np.float32),
}


def model() -> ir.Model:
    """All kinds of initializers, with notes on some, and a subgraph's among them."""
    values = []
    for name, array in ARRAYS.items():
        tensor = ir.Tensor(array, name=name, doc_string=f"about {name}")
        tensor.metadata_props["origin"] = name
        values.append(ir.Value(name=name, type=ir.TensorType(tensor.dtype), const_value=tensor))
    words = ir.StringTensor([b"one", b"two" * 50_000], shape=ir.Shape([2]), name="words")
    values.append(ir.Value(name="words", type=ir.TensorType(words.dtype), const_value=words))
    outputs = [ir.node("Identity", [value]).outputs[0] for value in values]
    nodes = [output.producer() for output in outputs]
    for value, output in zip(values, outputs, strict=True):
        output.name, output.type = f"{value.name}_out", value.type
        assert value.const_value is not None
        output.shape = ir.Shape(value.const_value.shape.numpy())
    graph = ir.Graph(
        [],
        outputs,
        nodes=[n for n in nodes if n],
        initializers=values,
        name="all",
        opset_imports={"": 21},
    )
    return ir.Model(graph, ir_version=10)


def test_the_message_is_the_same(tmp_path: Path) -> None:
    made = model()
    whole = ir.to_proto(made)
    protobuf.write(made, tmp_path / "m.onnx")
    assert ir.to_proto(made) == whole, "the model itself is as it was"
    read = onnx.load(tmp_path / "m.onnx")
    assert read == whole
    onnx.checker.check_model(read, full_check=True)
    for name, array in ARRAYS.items():
        tensor = ir.load(tmp_path / "m.onnx").graph.initializers[name].const_value
        assert tensor is not None
        assert np.array_equal(tensor.numpy(), array)


def test_a_write_that_fails_leaves_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model()
    whole = ir.to_proto(made)
    monkeypatch.setattr(ir, "to_proto", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        protobuf.write(made, tmp_path / "m.onnx")
    monkeypatch.undo()
    assert ir.to_proto(made) == whole


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, (1 << 31) - 1])
def test_lengths_are_varints(size: int) -> None:
    from google.protobuf.internal.encoder import _VarintBytes

    assert protobuf._prefix(42, size) == bytes([42]) + _VarintBytes(size)


def test_the_model_s_own_fields_are_in_order(tmp_path: Path) -> None:
    """OpenVINO does not read a file whose opset imports, if several, come before its graph."""
    made = model()
    made.graph.opset_imports["com.microsoft"] = 1
    made.metadata_props["by"] = "hand"
    protobuf.write(made, tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    tags = []
    place = 0
    while place < len(data):
        tags.append(data[place] >> 3)
        size = shift = 0
        while True:
            place += 1
            size |= (data[place] & 0x7F) << shift
            shift += 7
            if data[place] < 0x80:
                break
        place += 1 + (size if tags[-1] > 1 else 0)
    assert tags == [1, 7, 8, 8, 14]
