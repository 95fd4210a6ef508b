from __future__ import annotations

import pytest

from onnxpress.engine import Executed
from onnxpress.verbs.executed import int8_macs_share, summary


def kernels(*pairs: tuple[str, str]) -> list[Executed]:
    return [Executed(f"k{i}", op, precision, (f"l{i}",)) for i, (op, precision) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "phrase"),
    [
        ([], "unknown"),
        ([("Convolution", "bfloat16"), ("Convert", "float32"), ("Softmax", "float32")], "bfloat16"),
        (
            [("QLinearConv", "int8")] * 20 + [("FusedGemm", "float32"), ("Relu", "float32")],
            "int8 (20 of 21 layers)",
        ),
        (
            [("FullyConnected", "int8")] * 2 + [("MatMul", "bfloat16"), ("Subgraph", "float32")],
            "int8 (2 of 3 layers), bfloat16 (1 of 3 layers)",
        ),
        ([("TreeEnsembleClassifier", "float32"), ("Cast", "int64")], "float32"),
        ([("StringNormalizer", "string")], "unknown"),
    ],
)
def test_summary(pairs: list[tuple[str, str]], phrase: str) -> None:
    assert summary(kernels(*pairs)) == phrase


def test_int8_macs_share_counts_the_work_and_not_the_layers() -> None:
    executed = kernels(("Conv", "int8"), ("MatMul", "float32"), ("Reorder", "int8"))
    assert int8_macs_share(executed, {"l0": 90, "l1": 5, "l2": 5}) == pytest.approx(0.9)
    assert int8_macs_share(executed, {}) == 0
    assert int8_macs_share([], {"l0": 1}) == 0
