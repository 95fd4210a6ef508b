"""Kernels joined with the file's nodes, by names alone."""

from __future__ import annotations

from onnxpress.engine import Timed
from onnxpress.model import Model
from onnxpress.sizing import sized
from onnxpress.verbs.attribution import Share, attribute
from onnxpress.verbs.layers import layers
from zoo.graphs import parse

CHAIN = (
    "(float[2, 8] x, float[8, 4] w, float[4, 4] v) => (float[2, 4] y) "
    "{ a = MatMul (x, w) b = Relu (a) c = MatMul (b, v) y = Softmax (c) }"
)
FIRST, SECOND = 2 * 8 * 4, 2 * 4 * 4


def named(text: str) -> Model:
    """Each node is called ``n_`` and its first output."""
    model = parse(text)
    for node in model.nodes():
        node.name = f"n_{node.outputs[0].name}"
    return model


def kernel(op: str, *layers: str, ms: float = 1.0, calls: int = 1, reads: str = "") -> Timed:
    return Timed(f"k{op}{layers}", op, "CPU", ms, calls, layers, (reads,) if reads else ())


def shared(text: str, *kernels: Timed) -> tuple[tuple[Share, ...], int]:
    model = named(text)
    known, _ = sized(model)
    return attribute(kernels, model, layers(model, known))


def test_by_the_name_of_a_node_or_of_a_value() -> None:
    shares, lost = shared(CHAIN, kernel("MatMul", "n_a"), kernel("MatMul", "c"))
    assert [share.macs for share in shares] == [FIRST, SECOND]
    assert [share.layers for share in shares] == [("n_a",), ("n_c",)]
    assert lost == 0


def test_a_fused_kernel_has_the_sum_of_its_layers() -> None:
    shares, lost = shared(CHAIN, kernel("MLP", "n_a", "n_c"), kernel("Softmax", "n_y"))
    assert [share.macs for share in shares] == [FIRST + SECOND, 0]
    assert shares[0].layers == ("n_a", "n_c"), "what multiplies most comes first"
    assert lost == 0


def test_a_product_that_no_kernel_is_named_after_is_in_the_next_that_multiplies() -> None:
    shares, lost = shared(CHAIN, kernel("MatMul", "n_c"), kernel("Softmax", "n_y"))
    assert [share.macs for share in shares] == [FIRST + SECOND, 0]
    assert lost == 0


def test_a_kernel_that_multiplies_nothing_does_not_take_it() -> None:
    shares, lost = shared(CHAIN, kernel("MatMul", "n_a"), kernel("Softmax", "n_y"))
    assert [share.macs for share in shares] == [FIRST, 0]
    assert lost == SECOND


def test_no_layer_is_counted_twice() -> None:
    split = kernel("Reorder", "n_a", ms=9), kernel("MatMul", "n_a", "n_c")
    shares, _ = shared(CHAIN, *split)
    assert [share.macs for share in shares] == [0, FIRST + SECOND]
    slow = kernel("MatMul", "n_a", ms=1), kernel("MatMul", "n_a", ms=2), kernel("MatMul", "n_c")
    shares, _ = shared(CHAIN, *slow)
    assert [share.macs for share in shares] == [0, FIRST, SECOND]


def test_unknown_sizes_are_none_and_no_zero() -> None:
    text = (
        "(float[4, 4] x, float[k, 3] w) => (float[a, b] y) "
        "{ i = NonZero (x) f = Cast <to = 1> (i) y = MatMul (f, w) }"
    )
    shares, _ = shared(text, kernel("NonZero", "n_i"), kernel("MatMul", "n_y"))
    assert [share.macs for share in shares] == [0, None]


LOOP = (
    "(float[2, 8] x, float[8, 8] w, int64 n, bool go) => (float[2, 8] y) { y = Loop (n, go, x) "
    "<body = b (int64 i, bool c, float[2, 8] h) => (bool d, float[2, 8] p) "
    "{ d = Identity (c) p = MatMul (h, w) }> }"
)


def test_a_body_counts_as_often_as_its_kernel_ran() -> None:
    shares, _ = shared(LOOP, kernel("Loop", "n_y"), kernel("MatMul", "n_p", calls=5))
    assert [share.macs for share in shares] == [0, 5 * 2 * 8 * 8]


def test_a_loop_as_one_kernel_of_unknown_trips_has_unknown_macs() -> None:
    shares, lost = shared(LOOP, kernel("Loop", "n_y"))
    assert shares[0].macs is None
    assert lost == 0


def test_a_loop_as_one_kernel_of_known_trips_counts_them() -> None:
    text = LOOP.replace("{ y = Loop", "{ t = Constant <value_int = 3> () y = Loop").replace(
        "Loop (n,", "Loop (t,"
    )
    shares, _ = shared(text, kernel("Loop", "n_y"))
    assert shares[0].macs == 3 * 2 * 8 * 8


def test_a_kernel_of_the_engines_own_belongs_to_the_module_that_reads_it() -> None:
    model = named(CHAIN)
    for node in model.nodes():
        node.name = f"/encoder/{'first' if node.outputs[0].name in 'ab' else 'second'}/{node.name}"
    known, _ = sized(model)
    first = kernel("MatMul", "/encoder/first/n_a")
    second = kernel("MatMul", "/encoder/second/n_c")
    reorder = kernel("Reorder", reads=second.name)
    far = kernel("Convert", reads=reorder.name)
    shares, _ = attribute([far, reorder, second, first], model, layers(model, known))
    assert [share.module for share in shares] == [*["encoder.second"] * 3, "encoder.first"]
