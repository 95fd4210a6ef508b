"""Models are loaded or refused in one line, and saved whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import zoo
from crashes import survey
from onnxpress import model as model_module
from onnxpress.errors import ModelError
from onnxpress.model import JOURNAL_KEY, Journal, Model, load, peek
from zoo.graphs import parse, serialized
from zoo.linear import WEIGHT, answer, linear, names

ZooModel = Callable[[str], Path]
# --- loading -----------------------------------------------------------------------------------


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    text, empty, array = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "c.onnx"
    text.write_text("not a model, only a few words")
    empty.touch()
    array.write_bytes(numpy_helper.from_array(WEIGHT, "w").SerializeToString())
    (tmp_path / "d.json").write_text("{}")
    (tmp_path / "e.textproto").write_text("ir_version: 8")
    proto = onnx.ModelProto.FromString(serialized(linear()))
    del proto.opset_import[:]
    bare = tmp_path / "f.onnx"
    onnx.save(proto, bare)
    told = {
        tmp_path / "none.onnx": "none.onnx does not exist; expected an ONNX file",
        tmp_path / ("n" * 300): "cannot be read as ONNX",
        tmp_path: "is a folder; expected an ONNX file",
        text: "a.onnx cannot be read as ONNX",
        empty: "b.onnx holds no ONNX graph",
        array: "c.onnx (cannot be read as|holds no) ONNX",
        tmp_path / "d.json": "d.json (cannot be read as|holds no) ONNX",
        tmp_path / "e.textproto": "e.textproto (cannot be read as|holds no) ONNX",
        bare: "f.onnx does not say its opset; expected an opset_import; export it again",
    }
    for path, message in told.items():
        with pytest.raises(ModelError, match=message):
            load(path)


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_every_prefix_of_a_model_is_refused(name: str, zoo_model: ZooModel, tmp_path: Path) -> None:
    whole = zoo_model(name).read_bytes()
    proto = onnx.ModelProto.FromString(whole)
    # Cut after its last needed field, a file is a whole model without its last metadata.
    proto.ClearField("metadata_props")
    needed = len(proto.SerializeToString())
    cut = tmp_path / "cut.onnx"
    lengths = {*range(64), *range(64, needed, 97), *range(needed - 40, needed)}
    read = []
    for length in sorted(lengths):
        cut.write_bytes(whole[:length])
        try:
            read.append(serialized(load(cut)))
        except ModelError as error:
            assert "cut.onnx" in str(error)
            assert "\n" not in str(error)
    assert len(read) <= 2, "only a cut between the last fields may give a model"
    for model in read:
        assert (
            onnx.ModelProto.FromString(model).graph
            == onnx.ModelProto.FromString(serialized(load(zoo_model(name)))).graph
        )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_damaged_model_is_refused_or_works(
    flips: list[tuple[int, int]], zoo_model: ZooModel, tmp_path: Path
) -> None:
    data = bytearray(zoo_model("lstm").read_bytes())
    for position, value in flips:
        data[position % len(data)] = value
    (tmp_path / "m.onnx").write_bytes(data)
    try:
        model = load(tmp_path / "m.onnx")
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert model.signature.inputs is not None
    assert model.op_counts()
    assert model.parameters >= 0
    assert model.clone().journal == model.journal


@pytest.mark.parametrize("part", ["node", "output"])
def test_a_value_that_nothing_makes_is_refused(part: str, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(serialized(linear()))
    if part == "node":
        proto.graph.node[0].input[1] = "elsewhere"
    else:
        proto.graph.output[0].name = "elsewhere"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="nothing makes the value 'elsewhere'"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("x", "y", "inner", "told"),
    [
        (
            "float[N,2] x",
            "seq(map(int64, float[])) y",
            "",
            "the output 'y' .* as ZipMap makes them",
        ),
        ("float[N,2] x", "optional(map(int64, float[])) y", "", "; .*{'zipmap': False}, or by: "),
        ("float[N,2] x", "float[N,2] x", "map(int64, float[]) y", "the value 'y' .* as ZipMap"),
        ("map(string, float[]) x", "float[N,2] y", "", "the input 'x' is no tensor but maps; exp"),
    ],
)
def test_a_value_that_is_a_map_is_told(
    x: str, y: str, inner: str, told: str, tmp_path: Path
) -> None:
    header = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 1]>'
    body = f"({x}) => ({y}) <{inner}> {{ y = ai.onnx.ml.ZipMap(x) }}"
    onnx.save(onnx.parser.parse_model(f"{header} g {body}"), tmp_path / "m.onnx")
    for read in (load, peek):
        with pytest.raises(ModelError, match=told):
            read(tmp_path / "m.onnx")


def test_functions_subgraphs_and_absent_inputs_are_no_missing_values(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (float[2] x, bool c) => (float[2] y) {
        h = local.twice (x)
        y = If (c) <
            then_branch = t () => (float[2] a) { a = Clip (h) },
            else_branch = e () => (float[2] b) { b = Identity (h) }
        >
    }
    <domain: "local", opset_import: ["": 17]>
    twice (v) => (w) { w = Add (v, v) }"""
    proto = onnx.parser.parse_model(text)
    branch = next(a.g for a in proto.graph.node[1].attribute if a.name == "then_branch")
    branch.node[0].input.extend(["", "x"])
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    assert model.op_counts() == {"Clip": 1, "Identity": 1, "If": 1, "local::twice": 1}
    assert model.inlined().op_counts() == {"Add": 1, "Clip": 1, "Identity": 1, "If": 1}
    assert "local::twice" in model.op_counts(), "inlined() leaves its model alone"


# --- saving ------------------------------------------------------------------------------------


def test_saving_and_loading_keep_the_model(tmp_path: Path) -> None:
    model = linear()
    model.metadata["author"] = "me"
    model.journal.add("fold_constants", 3, ("w: too large",))
    assert model.save(tmp_path / "m.onnx") == tmp_path / "m.onnx"
    again = load(tmp_path / "m.onnx")
    assert again.path == tmp_path / "m.onnx"
    assert again.metadata["author"] == "me"
    assert again.journal == model.journal
    assert again.signature == model.signature
    assert np.array_equal(answer(again), answer(model))
    again.journal.add("eliminate_dead", 1)
    again.save(tmp_path / "m.onnx")
    assert [entry.step for entry in load(tmp_path / "m.onnx").journal.entries] == [
        "fold_constants",
        "eliminate_dead",
    ]
    assert names(tmp_path) == ["m.onnx"]


@pytest.mark.parametrize(
    "text",
    ["", "5", "null", "[1]", '{"a": 1}', '[{"step": 1}]', "[" * 100_000,
     '[{"step": "a", "rewrites": Infinity, "refusals": []}]'],
)  # fmt: skip
def test_a_journal_that_is_not_ours_reads_as_empty(text: str) -> None:
    assert Journal.from_json(text) == Journal()
    model = linear()
    model.metadata[JOURNAL_KEY] = text
    assert Model(model.ir).journal == Journal()


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected an existing folder; create"):
        linear().save(tmp_path / "none" / "m.onnx")
    with pytest.raises(ModelError, match="it is a folder"):
        linear().save(tmp_path)
    with pytest.raises(ModelError, match=r"cannot write /proc/m\.onnx"):
        linear().save("/proc/m.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("step", ["save", "replace"])
def test_a_save_that_fails_leaves_the_old_model(
    step: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", 1000)
    path = linear().save(tmp_path / "m.onnx")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    real = Path.replace

    def fails(*arguments: object, **_: object) -> None:
        if step == "save":
            Path(str(arguments[1])).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        if arguments[1] == path:
            raise OSError(28, "No space left on device")
        real(*arguments)  # type: ignore[arg-type]  # as it was called

    if step == "save":
        monkeypatch.setattr(ir, "save", fails)
        monkeypatch.setattr(model_module, "write", fails)
    else:
        monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(ModelError, match=r"cannot write .*m\.onnx \(No space left on device\)"):
        linear(WEIGHT + 1).save(path)
    monkeypatch.undo()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    assert np.array_equal(answer(load(path)), answer(linear()))


SETUP = """
from onnxpress import model
from onnxpress.model import load
model.EXTERNAL_DATA_BYTES = {limit}

def seen():
    loaded = load(folder / "m.onnx")
    [weight] = [value.const_value for value in loaded.ir.graph.initializers.values()]
    return float(weight.numpy().sum())
"""


@pytest.mark.parametrize("limit", [1000, 1 << 30])
def test_a_save_that_is_killed_anywhere_leaves_a_whole_model(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", limit)
    for name, value in (("m", 1), ("old", 1), ("new", 2)):
        linear(np.full_like(WEIGHT, value)).save(tmp_path / f"{name}.onnx")
    seen = survey(
        tmp_path,
        SETUP.format(limit=limit),
        "load(folder / 'new.onnx').save(folder / 'm.onnx')",
        "seen()",
        "load(folder / 'old.onnx').save(folder / 'm.onnx')",
    )
    assert len(seen) > 3
    switched = seen.index("800.0")
    assert seen == ["400.0"] * switched + ["800.0"] * (len(seen) - switched)


# --- clones and facts --------------------------------------------------------------------------


def test_a_clone_shares_every_tensor_and_nothing_else(zoo_model: ZooModel) -> None:
    model = load(zoo_model("transformer"))
    before = serialized(model)
    clone = model.clone()
    tensors = {id(value.const_value) for value in model.ir.graph.initializers.values()}
    assert {id(value.const_value) for value in clone.ir.graph.initializers.values()} == tensors
    for node in clone.nodes():
        node.name = "renamed"
    clone.metadata["new"] = "yes"
    clone.journal.add("step", 1)
    assert serialized(model) == before
    assert model.journal == Journal()
    assert "new" not in model.metadata


def test_counts_include_subgraphs_and_name_foreign_domains() -> None:
    model = parse(
        """(float[2] x, bool c) => (float[2] y) {
            z = If (c) <
                then_branch = t () => (float[2] a) { a = Relu (x) },
                else_branch = e () => (float[2] b) {
                    b = If (c) <
                        then_branch = u () => (float[2] d) { d = Relu (x) },
                        else_branch = v () => (float[2] f) { f = Neg (x) }
                    >
                }
            >
            y = Relu (z)
        }"""
    )
    next(node for node in model.nodes() if node.op_type == "Neg").domain = "com.microsoft"
    assert model.op_counts() == {"Relu": 3, "If": 2, "com.microsoft::Neg": 1}
    assert list(model.op_counts()) == ["Relu", "If", "com.microsoft::Neg"]


@pytest.mark.parametrize("name", zoo.names())
def test_size_is_that_of_the_saved_file(name: str, zoo_model: ZooModel, tmp_path: Path) -> None:
    model = load(zoo_model(name))
    saved = model.save(tmp_path / "m.onnx").stat().st_size
    assert model.size_bytes == pytest.approx(saved, rel=0.01)
    assert load(tmp_path / "m.onnx").file_bytes == saved


@pytest.mark.usefixtures("external")
def test_size_counts_external_and_shared_weights(tmp_path: Path) -> None:
    model = parse(
        "(float[n, 4] x) => (float[n, 100] y) { a = MatMul(x, v) b = MatMul(x, w) y = Add(a, b) }",
        v=WEIGHT,
        w=WEIGHT,
    )
    values = model.ir.graph.initializers
    values["v"].const_value = values["w"].const_value
    loaded = load(model.save(tmp_path / "m.onnx"))
    for each in (model, loaded):
        assert each.size_bytes == pytest.approx(loaded.file_bytes, rel=0.05)
    assert model.weight_bytes == WEIGHT.nbytes, "shared tensors count once in memory"


def test_parameters_are_weights_and_no_shapes(tmp_path: Path) -> None:
    model = parse(
        "(float[n, 4] x) => (float[n, 100] y) "
        "{ a = MatMul(x, w) b = Mul(a, s) c = Add(b, h) y = Reshape(c, shape) }",
        w=WEIGHT,
        h=np.ones(100, np.float16).astype(np.float32),
        s=np.float32(2),
        shape=np.array([-1, 100]),
    )
    assert model.parameters == 500
    assert load(model.save(tmp_path / "m.onnx")).parameters == 500


def test_the_signature_says_what_one_feeds() -> None:
    model = parse("(float[n, 4] x, float[4, 100] w) => (float[n, 100] y) { y = MatMul(x, w) }")
    assert [str(spec) for spec in model.signature.inputs] == [
        "x: float32[n, 4]",
        "w: float32[4, 100]",
    ]
    model = parse(
        "(float[n, 4] x, float[4, 100] w) => (float[n, 100] y) { y = MatMul(x, w) }", w=WEIGHT
    )
    assert [str(spec) for spec in model.signature.inputs] == ["x: float32[n, 4]"]
    untyped = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    proto = onnx.ModelProto.FromString(serialized(model))
    proto.graph.output[0].CopyFrom(untyped)
    assert str(Model(ir.from_proto(proto)).signature.outputs[0]) == "y: unknown[…]"


def test_text_inputs_are_objects(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.STRING, [None])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, None)
    words = helper.make_tensor("w", TensorProto.STRING, [1], [b"hello"])
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "w"], ["y"], axis=0)], "g", [x], [y], [words]
    )
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    assert [str(spec) for spec in (*model.signature.inputs, *model.signature.outputs)] == [
        "x: string[?]",
        "y: string[…]",
    ]
    assert model.size_bytes == pytest.approx(model.save(tmp_path / "n.onnx").stat().st_size, abs=8)


@pytest.mark.parametrize("places", [[0, 5], [[0, 0], [1, 1]]])
def test_sparse_initializers_become_dense(places: list[object], tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )  # fmt: skip
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    indices = numpy_helper.from_array(np.array(places, np.int64))
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    weight = model.ir.graph.initializers["w"].const_value
    assert weight is not None
    expected = np.zeros((4, 4), np.float32)
    expected[0, 0], expected[1, 1] = 2, 3
    np.testing.assert_array_equal(weight.numpy(), expected)
    onnx.checker.check_model(onnx.load(model.save(tmp_path / "dense.onnx")))
