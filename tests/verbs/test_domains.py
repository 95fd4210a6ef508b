"""Random inputs are such as the graph can take, whatever the inputs are called."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import onnxpress
from onnxpress.verbs.domains import domains
from zoo.graphs import parse

TABLE = np.zeros((50, 4), np.float32)


def test_indices_stay_within_their_tables_and_masks_are_of_padding() -> None:
    model = parse(
        "(int64[n,l] a, int64[n,l] b, int64[n,l] c) => (float[n,l,4] y) {"
        "e = Gather(table, a) s = Gather(small, b) t = Add(e, s) m = Cast<to=9>(c)"
        "u = Unsqueeze(m, last) y = Where(u, t, zero) }",
        table=TABLE, small=TABLE[:2], last=np.array([2]), zero=np.float32(0),
    )  # fmt: skip
    known = domains(model)
    assert known.masks == {"c"}
    feeds = known.feeds(model.signature, 40, 3)
    assert set(np.unique(feeds["b"])) == {0, 1}
    assert feeds["a"].min() >= 0
    assert 40 < feeds["a"].max() < 50
    assert len(np.unique(feeds["a"])) > 30
    assert (np.diff(feeds["c"], axis=1) <= 0).all()
    assert feeds["c"].any(axis=1).all()
    assert len(set(feeds["c"].sum(axis=1))) > 5


def test_a_position_that_is_moved_about_is_followed() -> None:
    model = parse(
        "(int32[n,1] a) => (float[n,1,4] y) { b = Cast<to=7>(a) c = Squeeze(b, one)"
        "d = Gather(table, c) y = Unsqueeze(d, one) }",
        table=TABLE[:7], one=np.array([1]),
    )  # fmt: skip
    feeds = domains(model).feeds(model.signature, 100, 0)
    assert set(np.unique(feeds["a"])) == set(range(7))


def test_values_stay_where_functions_are_defined() -> None:
    model = parse("(float[n] a, float[n] b, float[n] c) => (float[n] y)"
                  "{ d = Log(a) e = Acos(b) f = Add(d, e) y = Add(f, c) }")  # fmt: skip
    feeds = domains(model).feeds(model.signature, 500, 0)
    assert np.isfinite(np.arccos(feeds["b"])).mean() > 0.8
    assert (feeds["a"] > 0).mean() > 0.8
    assert (feeds["c"] < 0).mean() > 0.4


def test_both_branches_of_an_if_are_compared() -> None:
    text = (
        "(bool on, float[2] x) => (float[2] y) { y = If (on) <"
        "then_branch = t () => (float[2] a) { a = Relu(x) },"
        "else_branch = e () => (float[2] b) { b = OTHER(x) }> }"
    )
    one, other = (parse(text.replace("OTHER", op)).save for op in ("Exp", "Sin"))
    with TemporaryDirectory() as folder:
        files = one(Path(folder) / "one.onnx"), other(Path(folder) / "other.onnx")
        assert not onnxpress.verify(*files).ok
        assert onnxpress.verify(files[0], files[0]).ok
