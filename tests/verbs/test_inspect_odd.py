"""Models that are unlike most: inspect tells what it can of each, in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.model import Model
from zoo.graphs import parse, serialized

Shell = Callable[..., tuple[int, str, str]]
FORMS = ([], ["--json"], ["--ops"], ["--text"], ["--scales"], ["-v"], ["--ops", "-v"])


def text(body: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(onnx.parser.parse_model(body).SerializeToString())

    return write


def branches(path: Path) -> None:
    body = (
        "(bool k, float[n,4] x) => (float[n,4] y) {"
        " y = If(k) <then_branch = t () => (float[n,4] a) { a = MatMul(x, w) },"
        " else_branch = e () => (float[n,4] b) { h = MatMul(x, w) b = MatMul(h, w) }> }"
    )
    path.write_bytes(serialized(parse(body, w=np.eye(4, dtype=np.float32))))


def loops(path: Path) -> None:
    body = (
        "(float[n,4] x) => (float[n,4] y) {"
        " y = Loop(trips, , x) <body = b (int64 i, bool c, float[n,4] s)"
        " => (bool d, float[n,4] t) { d = Identity(c) t = MatMul(s, w) }> }"
    )
    path.write_bytes(serialized(parse(body, w=np.eye(4, dtype=np.float32), trips=np.array(5))))


def sparse(path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )  # fmt: skip
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    places = numpy_helper.from_array(np.array([0, 5], np.int64))
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 4]))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def duplicates(path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="same"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="same"),
        helper.make_node("Identity", ["b"], ["y"], name="same"),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def large(path: Path) -> None:
    """3 GB of zeros that the disk does not hold."""
    rows = 3 * (1 << 28)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, rows // 4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": 0, "length": rows * 4}.items():
        weight.external_data.add(key=key, value=str(value))
    with (path.parent / "w.bin").open("wb") as file:
        file.truncate(rows * 4)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", rows // 4])],
        [weight],
    )  # fmt: skip
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )


HEAD = '<ir_version: 8, opset_import: ["": 17{more}]> g '
ODD: dict[str, Callable[[Path], None]] = {
    "unknown domain": text(
        HEAD.replace("{more}", ', "zoo": 1')
        + "(float[n,4] x) => (float y) { a = zoo.Fold<k=3>(x) b = MatMul(a, a) y = zoo.End(b, x) }"
    ),
    "branches": branches,
    "loops": loops,
    "functions": text(
        HEAD.replace("{more}", ', "mine": 1')
        + "(float[n,4] x) => (float[n,4] y) { y = mine.Twice<gain=2.0>(x) }"
        + ' <domain: "mine", opset_import: ["": 17]> Twice <gain> (a) => (b) '
        + "{ g = Constant<value_float: float = @gain>() b = Mul(a, g) }"
    ),
    "sparse initializers": sparse,
    "strings": text(
        HEAD.replace("{more}", "")
        + '(string[n] x) => (bool[n] y) <string[1] w = {"a\\nb"}> { y = Equal(x, w) }'.replace(
            "Equal", "Equal"
        )
    ),
    "sizes of zero": text(
        HEAD.replace("{more}", "")
        + "(float[0,4] x, float[4,0] w) => (float[0,0] y) { y = MatMul(x, w) }"
    ),
    "duplicate names": duplicates,
    "sequences": text(
        HEAD.replace("{more}", "")
        + "(float[n,4] x) => (float[m,4] y) { s = SequenceConstruct(x, x)"
        " y = ConcatFromSequence<axis=0>(s) }"
    ),
    "sizes that data decide": text(
        HEAD.replace("{more}", "")
        + "(float[n,4] x) => (float[4,m] y) { i = NonZero(x) f = Cast<to=1>(i)"
        " t = Transpose<perm=[1,0]>(x) y = MatMul(t, f) }"
    ),
    "no nodes": text(HEAD.replace("{more}", "") + "(float[n] x) => (float[n] x) { }"),
    "large": large,
}


@pytest.mark.parametrize("name", ODD)
def test_every_form_tells_something(name: str, tmp_path: Path, shell: Shell) -> None:
    ODD[name](tmp_path / "m.onnx")
    for form in FORMS:
        code, out, err = shell("inspect", tmp_path / "m.onnx", *form)
        assert code == 0, (form, err)
        assert out.strip()


def inspected(name: str, tmp_path: Path) -> dict[str, object]:
    ODD[name](tmp_path / "m.onnx")
    found = api.inspect(tmp_path / "m.onnx").to_dict()
    assert json.dumps(found)
    return found


def test_of_branches_the_dearer_one_counts(tmp_path: Path) -> None:
    assert inspected("branches", tmp_path)["macs"] == 2 * 4 * 4


def test_of_loops_each_trip_counts(tmp_path: Path) -> None:
    assert inspected("loops", tmp_path)["macs"] == 5 * 4 * 4


def test_names_that_several_nodes_have_lose_no_work(tmp_path: Path) -> None:
    assert inspected("duplicate names", tmp_path)["macs"] == 2 * 4 * 4


def test_unknown_sizes_are_counted(tmp_path: Path) -> None:
    found = inspected("sizes that data decide", tmp_path)
    assert (found["macs"], found["macs_unknown"]) == (0, 1)
    assert found["activation_peak"]["unknown"] == 3  # type: ignore[index]


def test_weights_on_disk_are_not_read(tmp_path: Path) -> None:
    found = inspected("large", tmp_path)
    assert found["macs"] == found["parameters"] == 3 * (1 << 28)


def check_shape(given: dict[str, tuple[int | str, ...]]) -> dict[str, int]:
    model = parse("(float[n,4] x, float[n,m] z) => (float[n,4] y) { y = Relu(x) }")
    assert isinstance(model, Model)
    return dict(api.inspect(model, shapes=given).sizes)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, {"n": 1, "m": 1}),
        ({"n": (8,)}, {"n": 8, "m": 1}),
        ({"x": (2, 4), "m": (3,)}, {"n": 2, "m": 3}),
        ({"z": (2, 5), "n": (2,)}, {"n": 2, "m": 5}),
    ],
)
def test_sizes_of_free_dimensions(
    given: dict[str, tuple[int | str, ...]], sizes: dict[str, int]
) -> None:
    assert check_shape(given) == sizes


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"k": (1,)}, "--shape k=1; expected one of x, z, m, n"),
        ({"x": (1, 2, 3)}, "--shape x=1,2,3; expected 2 sizes"),
        ({"x": (1, 5)}, "--shape x=1,5; expected sizes that fit"),
        ({"n": (1, 2)}, "--shape n=1,2; expected one size for 'n'"),
        ({"n": ("a",)}, "--shape n=a; expected numbers"),
        ({"x": (1, 4), "n": (2,)}, "another --shape says 1"),
    ],
)
def test_sizes_that_do_not_fit(given: dict[str, tuple[int | str, ...]], told: str) -> None:
    with pytest.raises(InputError) as caught:
        check_shape(given)
    assert told in str(caught.value)
