"""What each scheme of quantisation does to a model, as recipes; and which layers it is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxpress.errors import InputError
from onnxpress.lineage import followed
from onnxpress.machine import Machine
from onnxpress.macs import macs_per_node
from onnxpress.model import Model
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    SIXTEEN_BIT_OPSET,
    check_activations,
    check_bits,
    constant_weight,
)
from onnxpress.recipe import Pass, Ranges, Recipe
from onnxpress.shapes import CONTRIB
from onnxpress.values import STANDARD, is_op, name_nodes, name_of, opset
from onnxpress.verbs.scales import PLACES

RECENT_OPSET, BFLOAT16_OPSET = 17, 22
"""What old models are upgraded to; and the first opset whose convolutions take bfloat16."""
PRODUCTS, LINEAR = ("MatMul", "Gemm"), ("Conv", "ConvTranspose", "MatMul", "Gemm")
LAYERS = {
    "dynamic": PRODUCTS,
    "static": ("Conv", *PRODUCTS),
    "weight-only": LINEAR,
    "float16": LINEAR,
    "bfloat16": LINEAR,
}
"""Scheme → the operators whose constant weights it is about, by 8 bits."""
HALVES = {"float16", "bfloat16"}
CALIBRATING = {"static", *HALVES}
"""The schemes that observe samples."""
CALIBRATORS = ("minmax", "mse", "percentile")
"""What is tried where none is asked for."""
EQUALIZING, SMOOTHING, CORRECTION = "equalize_layers", "smooth_activations", "correct_bias"
PASSES = EQUALIZING, SMOOTHING
EMBEDDINGS = "quantize_embeddings"
HELPERS = (*PASSES, CORRECTION)
"""What ``static`` may do besides: passes before it, and a field of it. Each is tried."""
INTEGER = {
    *PLACES,
    *(("", op) for op in ("ConvInteger", "MatMulInteger")),
    *(
        (CONTRIB, op)
        for op in (
            "DynamicQuantizeLSTM",
            "DynamicQuantizeMatMul",
            "MatMulBnb4",
            "MatMulIntegerToFloat",
            "QGemm",
        )
    ),
}
"""Domain and operator: those of models that are quantised already."""


@dataclass(frozen=True)
class Scheme:
    """One scheme or several joined by ``+``, each for what those before it left in float.

    ``engine`` is what the model is for, ``bits`` are those of integer weights; ``calibrator`` is
    None where the best one is to be found; ``reduce_range`` is for CPUs that saturate.
    """

    name: str
    engine: str = "onnxruntime"
    bits: int = 8
    activations: str = "uint8"
    calibrator: str | None = None
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if not set(self.parts) <= set(LAYERS):
            known = ", ".join(LAYERS)
            raise InputError(f"--scheme {self.name}", f"one of {known}, or several joined by +")
        if len(set(self.parts)) < len(self.parts):
            raise InputError(f"--scheme {self.name}", "each scheme once")
        if any(part in HALVES for part in self.parts[:-1]):
            raise InputError(
                f"--scheme {self.name}", "float16 or bfloat16 at the end: nothing is left behind it"
            )
        check_activations("--activations", self.activations)
        check_bits("--bits", self.bits)
        if self.engine == "onnxruntime" and "bfloat16" in self.parts:
            raise InputError(
                f"--scheme {self.name} with --engine onnxruntime, which has no bfloat16 on CPUs",
                "--engine openvino",
            )

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.name.split("+"))

    @property
    def calibrates(self) -> bool:
        """Whether it looks at samples before it writes anything."""
        return bool(CALIBRATING & set(self.parts))

    @property
    def integers(self) -> bool:
        """Whether weights become integers."""
        return bool({"static", "dynamic", "weight-only"} & set(self.parts))

    @property
    def multiplies_bytes(self) -> bool:
        """Whether activations of 8 bits are multiplied by weights of 8."""
        small = not self.activations.endswith("16")
        return "dynamic" in self.parts or ("static" in self.parts and small)

    @property
    def operators(self) -> tuple[str, ...]:
        """Those whose constant weights it is about."""
        every = [
            op
            for part in self.parts
            for op in (PRODUCTS if (part, self.bits) == ("weight-only", 4) else LAYERS[part])
        ]
        return tuple(dict.fromkeys(every))

    @property
    def options(self) -> Mapping[str, str]:
        """What its engine must be told, so that integer weights cost no time."""
        if "weight-only" not in self.parts:
            return {}
        if self.engine == "openvino":
            return {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}
        # Otherwise weights of convolutions become floats in each run, not once at load.
        once = self.engine == "onnxruntime" and "static" not in self.parts
        return {"session.disable_quant_qdq": "1"} if once else {}

    def recipe(
        self,
        exclude: Sequence[str] = (),
        calibrator: str | None = None,
        helpers: Collection[str] = (),
        *,
        tables: bool = False,
    ) -> Recipe:
        """Leaves the nodes named in ``exclude`` in float; ``helpers`` are some of ``HELPERS``.

        ``tables`` says whether to store embeddings as integers.
        """
        bits, by = self.bits, calibrator or self.calibrator or CALIBRATORS[0]
        fields = f"activations={self.activations}, weight_bits={bits}"
        reduced = ", reduce_range=True" if self.reduce_range else ""
        before = f"equalize_layers({fields})," if EQUALIZING in helpers else ""
        before += f"smooth_activations({fields}{reduced})," if SMOOTHING in helpers else ""
        corrected = ", correct_bias=True" if CORRECTION in helpers else ""
        static = f"{before}quantize_static({fields}, calibrator={by}{corrected}{reduced})"
        texts = {
            "dynamic": f"quantize_dynamic(weight_bits={bits}{reduced})",
            "static": static,
            "weight-only": self._weights(),
            "float16": "to_float16",
            "bfloat16": "to_bfloat16",
        }
        whole = [texts[part] for part in self.parts if part not in HALVES]
        whole += [EMBEDDINGS] if tables else []
        whole += [texts[part] for part in self.parts if part in HALVES]
        return excluding(Recipe.parse(",".join(whole)), exclude)

    def _weights(self) -> str:
        """In blocks where that is faster, or needed to be any good: see docs/quantization.md.

        ONNX Runtime is several times slower where it may not round activations on the way.
        """
        fast = ", compute=int8" if self.engine == "onnxruntime" else ""
        if self.bits == 4:
            return f"quantize_blockwise(bits=4{fast})"
        by_channel = f"quantize_weights(bits={self.bits})"
        blocks = self.bits == 8 and self.engine == "onnxruntime"
        return f"quantize_blockwise(bits=8{fast}),{by_channel}" if blocks else by_channel

    def by(self, need: Ranges) -> Scheme:
        """With the calibrator that saved ranges are by, unless one was asked for."""
        return replace(self, calibrator=self.calibrator or need.calibrator)

    def prepared(
        self, model: Model, exclude: Collection[str] = ()
    ) -> tuple[Model, tuple[str, ...]]:
        """A float model with the same answers, in which it finds all that there is to quantise.

        Functions are inlined, weights are constants, every node has a name, normalisation and bias
        are part of the product before them, and the opset has what the scheme writes. Also what
        the nodes called ``exclude`` became.
        """
        named = model.clone()
        name_nodes(named.ir)  # engines tell what they ran by these
        sixteen = self.activations.endswith("16")
        least = max(
            BFLOAT16_OPSET if "bfloat16" in self.parts else PER_CHANNEL_OPSET,
            SIXTEEN_BIT_OPSET if sixteen else PER_CHANNEL_OPSET,
        )
        steps = "inline_functions,fold_constants,fuse_conv_bn"
        # ONNX Runtime makes a Gemm of both, whose kernel for int8 needs its bias in integers.
        steps += ",fuse_gemm" if "static" in self.parts else ""
        if 0 < opset(model.ir) < least:
            steps = f"upgrade_opset(to={max(least, RECENT_OPSET)}),{steps}"
        ready, _ = Recipe.parse(f"{steps},eliminate_dead").apply(named)
        done = ready.journal.entries[len(named.journal.entries) :]
        became = followed(exclude, (entry.nodes for entry in done))
        excluded = tuple(name for name in map(name_of, ready.ir.graph) if name in became)
        if self.integers:
            ready, _ = excluding(Recipe.parse("transpose_weights"), excluded).apply(ready)
        return ready, excluded

    def layers(self, model: Model) -> tuple[str, ...]:
        """The nodes of ``model`` that it is about: products with constant weights."""
        return tuple(
            name_of(node)
            for node in model.ir.graph
            if is_op(node, *self.operators) and constant_weight(node) is not None
        )


def unsaturated(scheme: Scheme, machine: Machine, *, asked: bool) -> tuple[Scheme, str]:
    """``scheme`` with weights whose products do not saturate on ``machine``, and a warning.

    Bits that were ``asked`` for stay. The warning is empty where no product saturates.
    """
    bits = machine.weight_bits
    in_float = scheme.engine == "openvino" and scheme.name == "dynamic"  # as it runs that one
    if not scheme.multiplies_bytes or scheme.bits <= bits or in_float:
        return scheme, ""
    cpu = "this CPU has no int8 dot product (VNNI)"
    if asked:
        return scheme, f"{cpu}: products of weights of more than {bits} bits may saturate here"
    why = f"{cpu}: scales of weights are so wide that no products saturate; --bits 8 for others"
    return replace(scheme, reduce_range=True), why


def excluding(recipe: Recipe, more: Collection[str]) -> Recipe:
    """``recipe`` that leaves ``more`` in float, in addition to what it leaves already."""
    if not more:
        return recipe
    return Recipe(tuple(_excluding(step, more) for step in recipe.passes))


def _excluding(step: Pass, more: Collection[str]) -> Pass:
    already: tuple[str, ...] | None = getattr(step, "exclude", None)
    if already is None:
        return step
    every = tuple(dict.fromkeys((*already, *more)))
    return replace(step, **{"exclude": every})


def refuse_quantized(model: Model) -> None:
    """Raise ``InputError`` for a model that is quantised already, or that is not float32."""
    types: dict[ir.DataType, int] = {}
    for node in model.nodes():
        domain = "" if node.domain in STANDARD else node.domain
        if (domain, node.op_type) in INTEGER:
            raise InputError(
                f"the model is quantised already ({node.op_type} at '{name_of(node)}')",
                "a float32 model",
                "give the model that it was made of",
            )
    for graph in model.ir.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 1:
                types[tensor.dtype] = types.get(tensor.dtype, 0) + tensor.size
    most = max(types, key=types.__getitem__, default=ir.DataType.FLOAT)
    if most != ir.DataType.FLOAT:
        raise InputError(
            f"the model's weights are {most.name.lower()}",
            "float32",
            "convert the original in float32",
        )


def nothing_to_quantize(scheme: Scheme, model: Model, reasons: Sequence[str]) -> InputError:
    """Why ``scheme`` changed nothing."""
    why = "; ".join(reasons[:3])
    if not why and not scheme.layers(model):
        why = f"it has no {', '.join(scheme.operators)} with constant weights"
    return InputError(
        f"scheme {scheme.name} changes nothing in this model: {why or 'nothing is left to do'}",
        "a model to quantise",
        f"its opset is {opset(model.ir)}, it has {len(macs_per_node(model))} linear operators",
    )
