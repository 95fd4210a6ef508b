"""Models that are unlike most: optimised, or left alone with a reason, and never broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import Shell
from onnxpress import registry
from onnxpress.model import Model, load
from onnxpress.recipe import Pass, Recipe
from onnxpress.verbs.optimize import RECIPES, optimize
from zoo.graphs import serialized

RECIPE = {target: Recipe.parse(text) for target, text in RECIPES.items()}
EXACT = [
    name
    for name in registry.names("passes")
    if registry.create(Pass, "passes", name).rtol is not None
]
Arrays = Mapping[str, np.ndarray]
TOLERANCE = {np.dtype(np.float16): 2e-2, np.dtype(np.float64): 1e-10}


class Odd:
    """A model from ONNX's textual syntax, and one set of inputs or several."""

    def __init__(
        self,
        text: str,
        *feeds: Arrays,
        opset: int = 17,
        ir_version: int = 8,
        imports: str = "",
        change: Callable[[onnx.ModelProto], None] | None = None,
        **constants: np.ndarray,
    ) -> None:
        header = f'<ir_version: {ir_version}, opset_import: ["": {opset}{imports}]>'
        self.proto = onnx.parser.parse_model(f"{header} g {text}")
        for name, array in constants.items():
            tensor = numpy_helper.from_array(np.asarray(array), name)
            self.proto.graph.initializer.append(tensor)
        self.feeds = feeds
        if change is not None:
            change(self.proto)

    def model(self, folder: Path) -> Model:
        path = folder / "odd.onnx"
        path.write_bytes(self.proto.SerializeToString())
        return load(path)


def rand(*shape: int, kind: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(kind)


X, W = rand(2, 4), rand(4, 4, seed=1)
YES, NO = np.array(True), np.array(False)
CHAIN = (
    "{s}0 = MatMul({x}, w) {s}1 = Add({s}0, b) {s}2 = Identity({s}1) {s}3 = Mul({s}2, one)"
    " {s}4 = Transpose<perm=[1,0]>({s}3) {s}5 = Transpose<perm=[1,0]>({s}4)"
    " {s}6 = Shape({s}5) {s}7 = Reshape({s}5, {s}6) {s}8 = Div({s}7, root) {s}9 = Erf({s}8)"
    " {s}10 = Add({s}9, one) {s}11 = Mul({s}7, {s}10) {s}12 = Mul({s}11, half)"
)
"""Something for many passes; it reads its constants from around it. The result is ``{s}12``."""
SCALARS = {
    "w": W, "b": rand(4, seed=2), "one": np.float32(1), "root": np.float32(2**0.5),
    "half": np.float32(0.5),
}  # fmt: skip


def chain(stem: str, x: str) -> str:
    return CHAIN.format(s=stem, x=x)


def sparse(proto: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    places = numpy_helper.from_array(np.array([0, 5], np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 4]))


def same_node_names(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.name = "same"


def defaults(*names: str) -> Callable[[onnx.ModelProto], None]:
    """The initializers become inputs as well: a caller may give another value."""

    def change(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name in names:
                proto.graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )

    return change


def outputs(*names: str) -> Callable[[onnx.ModelProto], None]:
    """More outputs, of names that the graph has already, without a shape."""

    def change(proto: onnx.ModelProto) -> None:
        for name in names:
            proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    return change


def bare(proto: onnx.ModelProto) -> None:
    """Outputs without shapes, and no value_info."""
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")


FUNCTIONS = (
    ' <domain: "mine", opset_import: ["": 17]> Scale <gain> (a) => (b) '
    "{ g = Constant<value_float: float = @gain>() h = Mul(a, g) b = Identity(h) }"
    ' <domain: "mine", opset_import: ["": 17, "mine": 1]> Twice <gain> (a) => (c) '
    "{ b = mine.Scale<gain: float = @gain>(a) c = mine.Scale<gain=3.0>(b) }"
)
STRINGS = np.array([["a", "b\n"], ["", "ü"]], object)
EMPTY = np.zeros((0, 4), np.float32)
ODD = {
    "if": lambda: Odd(
        "(bool k, float[n,4] x) => (float[m,4] y) { "
        f"y = If(k) <then_branch = t () => (float[u,4] a12) {{ {chain('a', 'x')} }},"
        f" else_branch = e () => (float[v,4] b12) {{ {chain('b', 'x')} }}> }}",
        {"k": YES, "x": X}, {"k": NO, "x": X}, **SCALARS,
    ),
    "if of a constant": lambda: Odd(
        "(float[n,4] x) => (float[m,4] y) { "
        f"k = Not(no) y = If(k) <then_branch = t () => (float[u,4] a12) {{ {chain('a', 'x')} }},"
        " else_branch = e () => (float[v,4] f) { f = Neg(x) }> }",
        {"x": X}, no=NO, **SCALARS,
    ),
    "if without inputs that gives what is around it": lambda: Odd(
        "(bool k, float[n,4] x) => (float[m,4] y) { h = Relu(x)"
        " y = If(k) <then_branch = t () => (float[u,4] f) { f = Identity(h) },"
        " else_branch = e () => (float[v,4] g) { g = Identity(x) }> }",
        {"k": YES, "x": X}, {"k": NO, "x": X},
    ),
    "loop": lambda: Odd(
        "(int64 trips, float[n,4] x) => (float[m,4] y, float[r,n2,4] all) { same = Identity(x)"
        " y, all = Loop(trips, , x) <body = l (int64 i, bool c, float[p,4] s)"
        f" => (bool d, float[q,4] l12, float[q2,4] more) {{ d = Identity(c) {chain('l', 's')}"
        " sum = Add(l12, same) more = Add(sum, zero) }> }",
        {"trips": np.array(3), "x": X}, {"trips": np.array(1), "x": X},
        zero=np.zeros(4, np.float32), **SCALARS,
    ),
    "scan": lambda: Odd(
        "(float[n,4] x) => (float[4] last, float[m,4] all) { last, all = Scan(start, x)"
        " <num_scan_inputs = 1, body = l (float[4] s, float[4] row) => (float[4] t, float[4] u) {"
        " a = Identity(row) f = Mul(a, one) g = MatMul(f, w) h = Add(g, b) t = Add(s, h)"
        " u = Sub(t, zero) }> }",
        {"x": X}, start=rand(4), zero=np.float32(0), **SCALARS,
    ),
    "loop in an if in a loop": lambda: Odd(
        "(bool k, float[n,4] x) => (float[m,4] y) {"
        " y = Loop(two, , x) <body = o (int64 i, bool c, float[p,4] s) => (bool d, float[q,4] t) {"
        " d = Identity(c) t = If(k) <then_branch = a () => (float[q1,4] u) {"
        " u = Loop(two, , s) <body = in (int64 i2, bool c2, float[p2,4] s2)"
        " => (bool d2, float[q2,4] t2) { d2 = Identity(c2) h2 = MatMul(s2, w) j2 = Add(h2, b)"
        " t2 = Mul(j2, one) }> }, else_branch = e () => (float[q3,4] v) { v = Neg(s) }> }> }",
        {"k": YES, "x": X}, {"k": NO, "x": X}, two=np.array(2), **SCALARS,
    ),
    "functions": lambda: Odd(
        "(float[n,4] x) => (float[n,4] y) { a = mine.Scale<gain=2.0>(x) b = mine.Twice<gain=5.0>(a)"
        " c = mine.Scale<gain=0.5>(b) y = Add(c, a) }" + FUNCTIONS,
        {"x": X}, imports=', "mine": 1',
    ),
    "function in a branch": lambda: Odd(
        "(bool k, float[n,4] x) => (float[n,4] y) {"
        " y = If(k) <then_branch = t () => (float[u,4] p) { p = mine.Twice<gain=2.0>(x) },"
        " else_branch = e () => (float[v,4] q) { q = mine.Scale<gain=4.0>(x) }> }" + FUNCTIONS,
        {"k": YES, "x": X}, {"k": NO, "x": X}, imports=', "mine": 1',
    ),
    "function that is not called": lambda: Odd(
        "(float[n,4] x) => (float[n,4] y) { a = Identity(x) y = Relu(a) }" + FUNCTIONS, {"x": X},
        imports=', "mine": 1',
    ),
    "sparse initializer": lambda: Odd(
        "(float[n,4] x) => (float[n,4] y) { a = MatMul(x, w) y = Identity(a) }", {"x": X},
        change=sparse,
    ),
    "strings": lambda: Odd(
        '(string[n,2] x) => (string[m,2] y, bool[n2,2] z) <string[1] w = {"b"}>'
        " { a = Identity(x) y = Concat<axis=0>(a, x) h = Identity(w) z = Equal(a, h) }",
        {"x": STRINGS}, opset=19, ir_version=9,
    ),
    "strings that are constant": lambda: Odd(
        '() => (string[2,1] y, string[1,2] z) <string[1,2] w = {"b", "c"}>'
        " { a = Transpose<perm=[1,0]>(w) y = Identity(a) z = Transpose<perm=[1,0]>(a) }", {},
    ),
    "no rows": lambda: Odd(
        f"(float[n,4] x) => (float[m,4] a12, float[k] s) {{ {chain('a', 'x')}"
        " s = ReduceSum<keepdims=0>(a12, axes) }", {"x": EMPTY}, {"x": X}, axes=np.array([1]),
        **SCALARS,
    ),
    "sizes of zero": lambda: Odd(
        "(float[n,0] x) => (float[n2,4] y, float[n3,4] z) { p = MatMul(x, v) y = Add(p, b)"
        " c = Concat<axis=1>(x, p, x) z = Mul(c, one) }", {"x": rand(2, 0)}, v=rand(0, 4),
        **SCALARS,
    ),
    "empty initializers": lambda: Odd(
        "(float[n,4] x) => (float y, float[n2,4] z) { y = ReduceSum<keepdims=0,"
        " noop_with_empty_axes=0>(x, none) r = ReduceSum<noop_with_empty_axes=1>(x, none)"
        " z = Relu(r) }",
        {"x": X}, none=np.zeros(0, np.int64),
    ),
    "empty concatenations": lambda: Odd(
        "(float[n,4] x) => (float[n2,4] y, float[z2] z) { y = Concat<axis=0>(x, none)"
        " f = Reshape(x, flat) z = Concat<axis=0>(f, nothing) }", {"x": X},
        none=np.zeros((0, 4), np.float32), nothing=np.zeros(0, np.float32), flat=np.array([-1]),
    ),
    "node names that several have": lambda: Odd(
        f"(float[n,4] x) => (float[m,4] a12, float[m2,4] c12) {{ {chain('a', 'x')}"
        f" {chain('c', 'a12')} }}", {"x": X}, change=same_node_names, **SCALARS,
    ),
    "value names that two branches have": lambda: Odd(
        "(bool k, float[n,4] x) => (float[m,4] y) {"
        " y = If(k) <then_branch = t () => (float[u,4] h) { g = MatMul(x, w) h = Add(g, b) },"
        " else_branch = e () => (float[v,4] h) { g = MatMul(x, w) h = Sub(g, b) }> }",
        {"k": YES, "x": X}, {"k": NO, "x": X}, **SCALARS,
    ),
    "no shape anywhere": lambda: Odd(
        f"(float[n,4] x) => (float[m,4] a12) {{ {chain('a', 'x')} }}", {"x": X}, change=bare,
        **SCALARS,
    ),
    "scalars": lambda: Odd(
        "(float x) => (float y, float[1] z) { a = Add(x, one) h = Mul(a, one) y = Sub(h, zero)"
        " i = Reshape(a, [1]) z = Mul(i, half) }".replace("[1])", "flat)"),
        {"x": np.array(3, np.float32)}, flat=np.array([1]), zero=np.float32(0), **SCALARS,
    ),
    "optional inputs and outputs": lambda: Odd(
        "(float[n,1,8] x) => (float[a,c,d,e] y, float[p,q,r] last) {"
        " y, last = LSTM<hidden_size=3>(x, wx, wh) s, , = Split3(x) }".replace(
            " s, , = Split3(x)", " h = Clip(y, , six) k = Dropout(h)"
        ),
        {"x": rand(5, 1, 8)}, wx=rand(1, 12, 8), wh=rand(1, 12, 3), six=np.float32(6),
    ),
    "defaults that a caller may replace": lambda: Odd(
        f"(float[n,4] x) => (float[m,4] a12) {{ {chain('a', 'x')} }}",
        {"x": X}, change=defaults("w", "half"), **SCALARS,
    ),
    "inputs that nothing reads": lambda: Odd(
        "(float[n,4] x, int64[k] unread) => (float[m,4] y) { a = Identity(x) y = Relu(a) }",
        {"x": X, "unread": np.arange(3)},
    ),
    "an output that is an input": lambda: Odd(
        "(float[n,4] x) => (float[n,4] x, float[m,4] y) { y = Identity(x) }", {"x": X},
    ),
    "outputs that are constants": lambda: Odd(
        "(float[n,4] x) => (float[n,4] y, float[4,4] w, float[4,4] v, float[4,4] t) {"
        " y = MatMul(x, w) v = Identity(w) t = Transpose<perm=[1,0]>(w) }", {"x": X}, w=W,
    ),
    "no input at all": lambda: Odd(
        "() => (float[4,4] y, float[4,4] z) { a = MatMul(w, w) y = Relu(a) z = Neg(a) }", {}, w=W,
    ),
    "a value that is two outputs of itself": lambda: Odd(
        "(float[n,4] x) => (float[n1,4] y, float[n2,4] z, float[n3,4] u) {"
        " a = Relu(x) y = Identity(a) z = Identity(a) u = Identity(y) }", {"x": X},
    ),
    "outputs along a chain": lambda: Odd(
        f"(float[n,4] x) => (float[m,4] a12) {{ {chain('a', 'x')} }}", {"x": X},
        change=outputs("a0", "a1", "a2", "a5", "a8", "a10"), **SCALARS,
    ),
    "float16": lambda: Odd(
        f"(float16[n,4] x) => (float16[m,4] a12) {{ {chain('a', 'x')} }}",
        {"x": X.astype(np.float16)},
        **{name: np.asarray(array, np.float16) for name, array in SCALARS.items()},
    ),
    "bfloat16": lambda: Odd(
        "(float[n,4] x) => (float[m,4] y) { a = Cast<to=16>(x) h = Identity(a) i = Cast<to=16>(h)"
        " y = Cast<to=1>(i) }", {"x": X},
    ),
    "float64": lambda: Odd(
        "(double[n,4] x) => (double[m,4] y) { p = MatMul(x, w) q = Add(p, b) r = Mul(q, one)"
        " s = Relu(r) t = Transpose<perm=[1,0]>(s) y = Transpose<perm=[1,0]>(t) }",
        {"x": X.astype(np.float64)},
        **{name: np.asarray(array, np.float64) for name, array in SCALARS.items()},
    ),
    "int8": lambda: Odd(
        "(int8[n,4] x) => (int8[m,4] y, int32[q,4] z) { c = Cast<to=6>(x) h = Cast<to=3>(c)"
        " y = Identity(h) z = MatMulInteger(x, v) }",
        {"x": np.arange(-4, 4, dtype=np.int8).reshape(2, 4)},
        v=np.arange(16, dtype=np.int8).reshape(4, 4),
    ),
    "quantised": lambda: Odd(
        "(float[n,4] x) => (float[m,4] y) { q = QuantizeLinear(x, s, z)"
        " d = DequantizeLinear(q, s, z) e = DequantizeLinear(v, s, z) p = MatMul(d, e)"
        " y = Identity(p) }", {"x": X},
        s=np.float32(0.1), z=np.uint8(128), v=np.arange(16, dtype=np.uint8).reshape(4, 4),
    ),
    "sequences": lambda: Odd(
        "(float[n,4] x) => (float[m,4] y, int64 k) { a = Identity(x) s = SequenceConstruct(a, x)"
        " y = ConcatFromSequence<axis=0>(s) t = Identity(s) k = SequenceLength(t) }", {"x": X},
    ),
    "a sequence as output": lambda: Odd(
        "(float[4,4] x) => (seq(float[2,4]) y) { a = Identity(x)"
        " y = SplitToSequence<axis=0>(a, two) }",
        {"x": rand(4, 4)}, two=np.array(2),
    ),
    "sizes that data decide": lambda: Odd(
        "(float[n,4] x) => (float[p,q] y) { i = NonZero(x) f = Cast<to=1>(i) h = Identity(f)"
        " j = Transpose<perm=[1,0]>(h) k = Transpose<perm=[1,0]>(j) y = Add(k, h) }",
        {"x": np.eye(4, dtype=np.float32)}, {"x": EMPTY},
    ),
    "no node at all": lambda: Odd("(float[n] x) => (float[n] x) { }", {"x": rand(3)}),
    **{
        f"opset {version}": lambda version=version: Odd(
            "(float[n,4] x) => (float[m,4] y) { p = MatMul(x, w) q = Add(p, b) r = Identity(q)"
            " t = Transpose<perm=[1,0]>(r) u = Transpose<perm=[1,0]>(t) v = Mul(u, one)"
            " d = Dropout(v) s = Softmax<axis=1>(d) e = Sub(d, s) f = Reshape(e, keep)"
            " g = Flatten<axis=1>(f) y = Relu(g) }",
            {"x": X}, opset=version, ir_version=min(10, max(3, version - 8)),
            change=defaults("w", "b", "one", "keep") if version < 9 else None,
            w=W, b=SCALARS["b"], one=np.float32(1), keep=np.array([0, -1]),
        )
        for version in range(7, 24)
    },
}  # fmt: skip


def run(model: Model, feeds: Arrays) -> list[object]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = ir.to_proto(model.ir)
    for node in proto.graph.node:
        node.name = ""  # ONNX Runtime refuses names that several have
    whole = proto.SerializeToString()
    session = ort.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def same(a: object, b: object) -> bool:
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    assert isinstance(a, np.ndarray)
    assert isinstance(b, np.ndarray)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fV":
        return bool((a == b).all())
    tolerance = TOLERANCE.get(a.dtype, 1e-5)
    return np.allclose(a, b, tolerance, tolerance)


def computing(model: Model) -> int:
    """Its nodes but for constants, which an older opset has as attributes; functions inlined."""
    return sum(node.op_type != "Constant" for node in model.inlined().nodes())


def valid(model: Model) -> bool:
    """Whether onnx's checker takes it; it wants a shape of every output, ONNX Runtime does not."""
    try:
        onnx.checker.check_model(ir.to_proto(model.ir), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def unbroken(odd: Odd, before: Model, recipe: Recipe, *, portable: bool) -> None:
    """Everything that must hold of every model and every recipe, without the guard's help."""
    kept = serialized(before)
    result = optimize(before, None, recipe)
    assert serialized(before) == kept
    assert [step for step in result.passes if step.reverted] == []
    after = result.model
    assert after.signature == before.signature
    assert computing(after) <= computing(before)
    if portable and valid(before):
        assert valid(after)
    again = optimize(after, None, recipe)
    assert [step.name for step in again.passes if step.changed] == []
    for feeds in odd.feeds:
        assert same(run(before, feeds), run(after, feeds))


@pytest.mark.parametrize("target", RECIPES)
@pytest.mark.parametrize("name", ODD)
def test_whole_recipes(name: str, target: str, tmp_path: Path) -> None:
    odd = ODD[name]()
    unbroken(odd, odd.model(tmp_path), RECIPE[target], portable=target == "portable")


@pytest.mark.parametrize("name", ODD)
def test_each_pass_alone(name: str, tmp_path: Path) -> None:
    odd = ODD[name]()
    model = odd.model(tmp_path)
    for step in EXACT:
        unbroken(odd, model, Recipe.parse(step), portable=False)


UNKNOWN = (
    "(float[n,4] x) => (float[m,4] y) { a = Identity(x) b = zoo.Fold<k=3>(a) c = Identity(b)"
    " y = Neg(c) }"
)


@pytest.mark.parametrize("target", RECIPES)
def test_an_operator_that_nobody_knows(target: str, tmp_path: Path, shell: Shell) -> None:
    """Without its library nothing can be run and nothing be proven; unproven it is optimised."""
    odd = Odd(UNKNOWN, imports=', "zoo": 1')
    path = odd.model(tmp_path).path
    words = ("optimize", path, "--target", target, "-o", "o.onnx")
    code, out, err = shell(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "zoo::Fold" in err
    assert "--custom-ops" in err
    assert not (tmp_path / "o.onnx").exists()
    assert shell(*words, "--no-verify", "-q") == (0, "", "")
    after = load(tmp_path / "o.onnx")
    assert after.op_counts() == {"Neg": 1, "zoo::Fold": 1}
    assert after.signature == load(tmp_path / "odd.onnx").signature


def test_what_onnxruntime_refuses_is_one_line(tmp_path: Path, shell: Shell) -> None:
    """It takes no two nodes of one name."""
    path = ODD["node names that several have"]().model(tmp_path).path
    code, out, err = shell("optimize", path, "-o", "o.onnx")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "same node name" in err


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, shell: Shell) -> None:
    path = ODD["a sequence as output"]().model(tmp_path).path
    code, out, err = shell("optimize", path, "-o", "o.onnx")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "output 'y' is no tensor" in err
    assert "--no-verify" in err
    assert shell("optimize", path, "-o", "o.onnx", "--no-verify", "-q") == (0, "", "")


UNPROVEN = ("node names that several have", "a sequence as output")
GUARDED = [name for name in ODD if name not in UNPROVEN]


@pytest.mark.parametrize("name", GUARDED)
def test_the_guard_agrees(name: str, tmp_path: Path) -> None:
    model = ODD[name]().model(tmp_path)
    feeds = [dict(feeds) for feeds in ODD[name]().feeds]
    result = optimize(model, lambda: feeds, RECIPE["onnxruntime"])
    assert result.verified is not None
    assert result.verified.ok
    for step in result.passes:
        assert not step.reverted or "kernels" in step.reason, step
