"""Each operator of a trained network computes what ONNX Runtime does, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxpress.errors import SourceError
from onnxpress.training.operators import OPERATORS
from onnxpress.training.wiring import wired
from zoo.graphs import answers, difference, parse

GENERATOR = np.random.default_rng(3)


def noise(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


IMAGE, ROWS = (2, 4, 9, 8), (3, 5, 6)
BODIES = {
    "conv": "y = Conv<pads=[0,1,2,1], strides=[2,1], dilations=[1,2]>(x, w43, b6)",
    "conv same": 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w43)',
    "depthwise": "y = Conv<group=4, pads=[1,1,1,1]>(x, deep)",
    "transposed": "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]>(x, w43t)",
    "max pool": "y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,0,1]>(x)",
    "max pool ceil": "y = MaxPool<kernel_shape=[2,3], strides=[2,2], ceil_mode=1>(x)",
    "average pool": "y = AveragePool<kernel_shape=[3,3], strides=[2,1], pads=[1,1,1,1]>(x)",
    "uneven average pool": "y = AveragePool<kernel_shape=[3,3], pads=[0,1,1,0]>(x)",
    "counted average pool": "y = AveragePool<kernel_shape=[3,3], pads=[0,1,1,0],"
    " count_include_pad=1>(x)",
    "global pools": "a = GlobalAveragePool(x)\n m = GlobalMaxPool(x)\n y = Concat<axis=1>(a, m)",
    "norms": "a = InstanceNormalization(x, four, four2)\n"
    " y = BatchNormalization(a, four, four2, four2, positive)",
    "activations": "a = LeakyRelu<alpha=0.2>(x)\n e = Elu(x)\n s = HardSigmoid<alpha=0.3>(x)\n"
    " h = HardSwish(x)\n p = PRelu(x, slope)\n c = Celu<alpha=0.5>(x)\n z = Selu(x)\n"
    " g = Softplus(x)\n f = Softsign(x)\n y = Sum(a, e, s, h, p, c, z, g, f)",
    "elementwise": "a = Abs(x)\n q = Sqrt(a)\n n = Neg(x)\n e = Erf(n)\n t = Tanh(q)\n o = Sin(e)\n"
    " r = Reciprocal(positive3)\n m = Mul(o, r)\n l = Log(positive3)\n d = Div(t, l)\n"
    " y = Max(m, d)",
    "reduced": "a = ReduceMean<axes=[2,3], keepdims=0>(x)\n b = ReduceMax<axes=[-1,2],"
    " keepdims=0>(x)\n c = ReduceL2<axes=[2,3], keepdims=0>(x)\n"
    " l = ReduceLogSumExp<axes=[3,2], keepdims=0>(x)\n y = Mean(a, b, c, l)",
    "clipped": "y = Clip(x, low, high)",
    "powers": "y = Pow(x, two)",
    "shuffled": "s = Constant<value_ints=[0, 2, 2, 72]>()\n r = Reshape(x, s)\n"
    " y = Transpose<perm=[0,2,1,3]>(r)",
    "shape": "s = Shape(x)\n i = Constant<value_ints=[0]>()\n g = Gather(s, i)\n"
    " m = Constant<value_ints=[-1]>()\n t = Concat<axis=0>(g, m)\n y = Reshape(x, t)",
    "flat": "y = Flatten<axis=2>(x)",
    "slices": "a = Constant<value_ints=[1, -1]>()\n b = Constant<value_ints=[100, -100]>()\n"
    " c = Constant<value_ints=[2, 3]>()\n d = Constant<value_ints=[2, -2]>()\n"
    " y = Slice(x, a, b, c, d)",
    "split": "s = Constant<value_ints=[1, 3]>()\n a, b = Split<axis=1>(x, s)\n"
    " y = Concat<axis=1>(b, a, a)",
    "halves": "a, b = Split<axis=1>(x)\n y = Sub(a, b)",
    "gathered": "i = Constant<value_ints=[3, -4, 1]>()\n y = Gather<axis=1>(x, i)",
    "padded": 'p = Constant<value_ints=[0,0,1,2,0,0,2,1]>()\n y = Pad<mode="reflect">(x, p)',
    "padded with": "p = Constant<value_ints=[0,0,1,2,0,0,-1,1]>()\n y = Pad(x, p, low)",
    "nearest": 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric",'
    ' nearest_mode="floor">(x, , doubled)',
    "bilinear": 'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">'
    "(x, , doubled)",
    "aligned": 's = Constant<value_ints=[2, 4, 13, 15]>()\n y = Resize<mode="linear",'
    ' coordinate_transformation_mode="align_corners">(x, , , s)',
    "depth to space": "y = DepthToSpace<blocksize=2>(x)",
    "depth to space crd": 'y = DepthToSpace<blocksize=2, mode="CRD">(x)',
    "space to depth": "p = Slice(x, nought, eight, axis2)\n y = SpaceToDepth<blocksize=2>(p)",
    "where": "c = Greater(x, low)\n y = Where(c, x, high)",
    "expanded": "s = Constant<value_ints=[2, 4, 9, 8]>()\n e = Expand(slope, s)\n y = Mul(x, e)",
}
SEQUENCES = {
    "gemm": "s = Constant<value_ints=[15, 6]>()\n r = Reshape(x, s)\n"
    " y = Gemm<alpha=0.5, beta=2.0>(r, w68, b8)",
    "matmul": "y = MatMul(x, w68)",
    "softmax": "a = Softmax<axis=1>(x)\n b = LogSoftmax(x)\n y = Add(a, b)",
    "layer norm": "y = LayerNormalization(x, six, six2)",
    "einsum": 'y = Einsum<equation="abc,cd->abd">(x, w68)',
    "lstm": "y, h, c = LSTM<hidden_size=4>(x, lw, lr, lb)",
    "lstm both ways": 'y, h, c = LSTM<hidden_size=4, direction="bidirectional">'
    "(x, lw2, lr2, lb2, , h2, c2)",
    "gru": "y, h = GRU<hidden_size=4, linear_before_reset=1>(x, gw, gr, gb)",
    "squeezed": "a = Constant<value_ints=[1, -1]>()\n u = Unsqueeze(x, a)\n y = Squeeze(u, a)",
    "sums": "y = CumSum(x, axis2)",
    "tiled": "t = Constant<value_ints=[2, 1, 3]>()\n y = Tile(x, t)",
    "triangle": "y = Trilu<upper=0>(x)",
}
CONSTANTS = {
    "w43": noise(6, 4, 3, 3), "w43t": noise(4, 6, 3, 3), "b6": noise(6), "deep": noise(4, 1, 3, 3),
    "four": noise(4), "four2": noise(4), "positive": np.abs(noise(4)) + 0.5,
    "positive3": np.abs(noise(4, 1, 1)) + 1.5, "slope": noise(4, 1, 1), "low": np.float32(-0.3),
    "high": np.float32(0.7), "two": np.int64(2), "nought": np.array([0]), "eight": np.array([8]),
    "axis2": np.array([2]), "doubled": np.array([1, 1, 2, 2], np.float32), "w68": noise(6, 8),
    "b8": noise(8), "six": noise(6), "six2": noise(6), "lw": noise(1, 16, 6),
    "lr": noise(1, 16, 4), "lb": noise(1, 32), "lw2": noise(2, 16, 6), "lr2": noise(2, 16, 4),
    "lb2": noise(2, 32), "h2": noise(2, 5, 4), "c2": noise(2, 5, 4), "gw": noise(1, 12, 6),
    "gr": noise(1, 12, 4), "gb": noise(1, 24),
}  # fmt: skip
CASES = [(name, body, IMAGE) for name, body in BODIES.items()]
CASES += [(name, body, ROWS) for name, body in SEQUENCES.items()]


def reads(body: str, name: str) -> bool:
    return any(f"{before}{name}{after}" in body for before in "( " for after in ",)")


@pytest.mark.parametrize(("body", "shape"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_an_operator(body: str, shape: tuple[int, ...]) -> None:
    dims = ",".join(map(str, shape))
    used = {name: array for name, array in CONSTANTS.items() if reads(body, name)}
    model = parse(f"(float[{dims}] x) => (float y) {{\n {body}\n}}", **used)
    x = noise(*shape)
    network = wired(model)
    given = torch.from_numpy(x).requires_grad_()
    made = network(given)
    assert isinstance(made, torch.Tensor)
    assert difference(answers(model, {"x": x}), [made.detach().numpy()]) < 1e-5
    made.square().sum().backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


def test_an_operator_without_gradient_is_named() -> None:
    model = parse("(float[3] x) => (float[n] y) { i = NonZero(x)  y = Cast<to=1>(i) }")
    with pytest.raises(SourceError, match=r"is a NonZero .* cannot be trained here; .* quantize"):
        wired(model)


def test_a_setting_that_is_not_known_is_named() -> None:
    model = parse('(float[1,1,4,4] x) => (float y) { y = Resize<mode="cubic", '
                  'coordinate_transformation_mode="asymmetric">(x, , s) }',
                  s=np.array([1, 1, 2, 2], np.float32))  # fmt: skip
    with pytest.raises(SourceError, match="Resize and cubic with asymmetric"):
        wired(model)(torch.zeros(1, 1, 4, 4))


def test_every_operator_is_one_of_onnx() -> None:
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert not OPERATORS.keys() - known
