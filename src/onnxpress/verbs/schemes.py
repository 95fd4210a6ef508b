"""What each scheme of quantisation does to a model, as recipes; and which layers it is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from onnxpress.errors import InputError
from onnxpress.macs import macs_per_node
from onnxpress.model import Model
from onnxpress.quantization import (
    ACTIVATIONS,
    PER_CHANNEL_OPSET,
    SIXTEEN_BIT_OPSET,
    check_bits,
    constant_weight,
)
from onnxpress.recipe import Pass, Ranges, Recipe
from onnxpress.shapes import CONTRIB
from onnxpress.values import STANDARD, is_op, name_of, opset

RECENT_OPSET = 17
SCHEMES = ("dynamic", "static", "weight-only")
CALIBRATORS = ("minmax", "mse", "percentile")
"""What is tried where none is asked for."""
LAYERS = {
    "dynamic": ("MatMul", "Gemm"),
    "static": ("Conv", "MatMul", "Gemm"),
    "weight-only": ("Conv", "ConvTranspose", "MatMul", "Gemm"),
}
INTEGER = {
    "": {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
        "QLinearMatMul", "ConvInteger", "MatMulInteger",
    },
    CONTRIB: {
        "QuantizeLinear", "DequantizeLinear", "MatMulNBits", "QAttention", "QGemm", "QLinearAdd",
        "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "MatMulBnb4",
    },
}  # fmt: skip
"""Domain → the operators of models that are quantised already."""


@dataclass(frozen=True)
class Scheme:
    """A scheme with its settings; ``calibrator`` is None where the best one is to be found."""

    name: str
    bits: int
    activations: str = "uint8"
    calibrator: str | None = None

    def __post_init__(self) -> None:
        if self.name not in SCHEMES:
            raise InputError(f"--scheme {self.name}", f"one of {', '.join(SCHEMES)}")
        if self.activations not in ACTIVATIONS:
            raise InputError(f"--activations {self.activations}", " or ".join(ACTIVATIONS))
        check_bits("--bits", self.bits)

    @property
    def calibrates(self) -> bool:
        return self.name == "static"

    def recipe(self, exclude: Sequence[str] = (), calibrator: str | None = None) -> Recipe:
        """Its last pass quantises all layers but those named in ``exclude``."""
        bits = self.bits
        if self.name == "dynamic":
            return _excluding(Recipe.parse(f"quantize_dynamic(weight_bits={bits})"), exclude)
        if self.name == "weight-only":
            return _excluding(Recipe.parse(f"quantize_weights(bits={bits})"), exclude)
        fields = f"activations={self.activations}, weight_bits={bits}"
        by = calibrator or self.calibrator or CALIBRATORS[0]
        return _excluding(Recipe.parse(f"quantize_static({fields}, calibrator={by})"), exclude)

    def by(self, need: Ranges) -> Scheme:
        """With the calibrator and the activations that saved ranges are for, unless asked for."""
        return replace(
            self,
            calibrator=self.calibrator or need.calibrator,
            activations=need.dtype if self.activations == "uint8" else self.activations,
        )

    def smoothed(self, recipe: Recipe) -> Recipe:
        """``recipe`` with outliers moved into the weights before it quantises."""
        fields = f"activations={self.activations}, weight_bits={self.bits}"
        smooth = Recipe.parse(f"smooth_activations({fields})").passes
        return Recipe((*recipe.passes[:-1], *smooth, recipe.passes[-1]))

    def prepared(self, model: Model) -> Model:
        """A float model with the same answers, in which it finds all that there is to quantise.

        Functions are inlined, weights are constants, every node has a name, normalisation is part
        of the convolution before it, and the opset has what the scheme writes.
        """
        named = model.clone()
        NameFixPass()(named.ir)  # engines tell what they ran by the nodes' names
        least = SIXTEEN_BIT_OPSET if self.activations.endswith("16") else PER_CHANNEL_OPSET
        steps = "inline_functions,fold_constants,fuse_conv_bn,eliminate_dead"
        if 0 < opset(model.ir) < least:
            steps = f"upgrade_opset(to={max(least, RECENT_OPSET)}),{steps}"
        ready, _ = Recipe.parse(steps).apply(named)
        return ready

    def layers(self, model: Model) -> tuple[str, ...]:
        """The nodes of ``model`` that it is about: products with constant weights."""
        return tuple(
            name_of(node)
            for node in model.ir.graph
            if is_op(node, *LAYERS[self.name]) and constant_weight(node) is not None
        )


def _excluding(recipe: Recipe, exclude: Sequence[str]) -> Recipe:
    """``recipe`` whose last pass leaves the nodes named in ``exclude`` in float."""
    last: Pass = replace(recipe.passes[-1], **({"exclude": tuple(exclude)} if exclude else {}))
    return Recipe((*recipe.passes[:-1], last))


def excluding(recipe: Recipe, more: Collection[str]) -> Recipe:
    """``recipe`` that leaves ``more`` in float, in addition to what it leaves already."""
    already: tuple[str, ...] = getattr(recipe.passes[-1], "exclude", ())
    return _excluding(recipe, tuple(dict.fromkeys((*already, *more))))


def refuse_quantized(model: Model) -> None:
    """Raise ``InputError`` for a model that is quantised already, or that is not float32."""
    types: dict[ir.DataType, int] = {}
    for node in model.nodes():
        domain = "" if node.domain in STANDARD else node.domain
        if node.op_type in INTEGER.get(domain, ()):
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
        operators = ", ".join(LAYERS[scheme.name])
        why = f"it has no {operators} with constant weights"
    return InputError(
        f"scheme {scheme.name} changes nothing in this model: {why or 'nothing is left to do'}",
        "a model to quantise",
        f"its opset is {opset(model.ir)}, it has {len(macs_per_node(model))} linear operators",
    )
