from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.merge_concats import MergeConcats
from zoo.graphs import apply, parse

MERGE = MergeConcats()
X = np.arange(12, dtype=np.float32).reshape(2, 6)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Concat<axis=1>(x, x) y = Concat<axis=-1>(x, a)", 1),
        ("a = Concat<axis=1>(x, x) y = Concat<axis=1>(a, x, a)", 1),
        ("a = Concat<axis=1>(x, x) b = Concat<axis=1>(a, x) y = Concat<axis=1>(b, x)", 1),
        ("a = Concat<axis=1>(x, x) b = Concat<axis=1>(x, x) y = Concat<axis=0>(a, b)", 3),
    ],
)
def test_concatenations(body: str, left: int) -> None:
    model = parse(f"(float[n,6] x) => (float[a,b] y) {{ {body} }}")
    assert apply(MERGE, model, {"x": X})[0].op_counts() == {"Concat": left}


def test_another_reader_blocks() -> None:
    model = parse(
        """(float[n,6] x) => (float[a,b] y, float[c,d] z)
        { a = Concat<axis=1>(x, x) y = Concat<axis=1>(a, x) z = Relu(a) }"""
    )
    _, change = apply(MERGE, model, {"x": X})
    (missed,) = change.missed
    assert not change.changed
    assert missed.blocking == "z"


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=5),
    axis=st.sampled_from([1, -1]),
)
def test_any_nesting(parts: list[list[int]], axis: int) -> None:
    text, values = "", ["x"]
    for index, chosen in enumerate(parts):
        names = ", ".join(values[one % len(values)] for one in chosen)
        text += f"v{index} = Concat<axis={axis}>({names}) "
        values.append(f"v{index}")
    model = parse(f"(float[n,6] x) => (float[a,b] y) {{ {text} y = Relu({values[-1]}) }}")
    apply(MERGE, model, {"x": X})
