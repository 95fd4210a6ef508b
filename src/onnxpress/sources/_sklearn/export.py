"""How a fitted scikit-learn model becomes ONNX: by our tree writer, or by skl2onnx."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import skl2onnx
from onnx import TensorProto, helper
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.base import is_classifier, is_outlier_detector

from onnxpress.errors import SourceError
from onnxpress.model import Model
from onnxpress.opsets import nearest
from onnxpress.signature import Feeds
from onnxpress.source import Exported, ExportOptions
from onnxpress.sources._sklearn.converters import reader_of, registered
from onnxpress.sources._sklearn.inputs import Inputs
from onnxpress.trees.classes import categories_of
from onnxpress.trees.digits import require_float32
from onnxpress.trees.forest import Forest
from onnxpress.trees.graph import (
    INPUT,
    ML_DOMAIN,
    ML_OPSET,
    OLDEST_OPSET,
    Graph,
    ensemble_model,
    model_of,
    write,
)
from onnxpress.trees.origin import EXPORTER, batch_of

LOCALE = b"C.UTF-8"
"""Lower case as Python has it, and there on every Linux; skl2onnx asks for en_US, which is not."""


def export(
    model: Any,
    last: Any,
    forest: Forest | None,
    inputs: Inputs,
    outputs: Feeds,
    options: ExportOptions,
) -> Exported:
    """``forest`` is the whole model, where it is one.

    Raises ``SourceError`` for what neither writer knows, with the name of the estimator, and
    where thresholds need more digits than float32 has.
    """
    batch = batch_of(options, {one.name: one.columns for one in inputs.every})
    if forest is not None:
        require_float32(forest, inputs.names, type(last).__name__)
        return _exported(model_of(forest, options.opset, batch), EXPORTER)
    if inputs.frame and last is model and reader_of(last) is not None:
        return _exported(_of_frame(last, inputs, outputs, options.opset, batch), EXPORTER)
    opset = nearest(options.opset, OLDEST_OPSET, skl2onnx.__max_supported_opset__)
    proto = _by_skl2onnx(_convertible(model), last, inputs, opset)
    if is_outlier_detector(model):
        _flatten(proto)
    result = _exported(proto, f"skl2onnx {skl2onnx.__version__}")
    _settle(result.model.ir, inputs, outputs, batch)
    return result


def _by_skl2onnx(model: Any, last: Any, inputs: Inputs, opset: int) -> onnx.ModelProto:
    kinds = {"object": StringTensorType, "int64": Int64TensorType, "float32": FloatTensorType}
    given = [(one.name, kinds[one.values.dtype.name]([None, one.columns])) for one in inputs.every]
    # Classifiers pack probabilities in dictionaries unless told; some do not know the word.
    tries: list[dict[int, dict[str, bool]] | None] = [None]
    if is_classifier(model):
        tries = [{id(model): {"zipmap": False}}, {id(last): {"raw_scores": True}}]
    for options in tries:
        try:
            with registered(last), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its own deprecated calls; the proof decides
                proto: onnx.ModelProto = skl2onnx.convert_sklearn(
                    model,
                    initial_types=given,
                    options=options,
                    target_opset={"": opset, ML_DOMAIN: ML_OPSET},
                )
        except SourceError:
            raise
        except Exception as error:  # converters raise anything; the reason is kept
            text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            if options is tries[0] and "zipmap" in text:
                continue
            raise SourceError(
                f"skl2onnx cannot convert {type(model).__name__} ({text})",
                "estimators that it knows, or trees",
            ) from error
        for node in proto.graph.node:
            if node.op_type == "StringNormalizer":
                kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute("locale", LOCALE)])
        for domain in proto.opset_import:  # it writes for this opset, then notes the oldest one
            if domain.domain == "":
                domain.version = opset
        proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import, True)
        return proto
    raise AssertionError("the last try returns or raises")


def _convertible(model: Any) -> Any:
    """``model`` without a setting of voting that skl2onnx refuses: only ``transform`` reads it."""
    if hasattr(model, "steps"):
        name, last = model.steps[-1]
        twin = copy.copy(model)
        twin.steps = [*model.steps[:-1], (name, _convertible(last))]
        return twin
    if getattr(model, "flatten_transform", False):
        model = copy.copy(model)
        model.flatten_transform = False
    return model


def _exported(proto: onnx.ModelProto, exporter: str) -> Exported:
    import sklearn

    model = Model(ir.from_proto(proto))
    model.metadata["onnxpress.exporter"] = f"{exporter} of scikit-learn {sklearn.__version__}"
    return Exported(model, exporter.partition(" ")[0])


def _of_frame(
    model: Any, inputs: Inputs, outputs: Feeds, opset: int | None, batch: int | str
) -> onnx.ModelProto:
    """Histogram gradient boosting on a DataFrame: strings become codes, then columns a matrix."""
    forest = reader_of(model)(model)  # type: ignore[misc]  # the caller has asked
    assert forest is not None
    require_float32(forest, [one.name for one in inputs.every])
    graph, categories, columns = Graph(), categories_of(model), []
    for index, one in enumerate(inputs.every):
        column = one.name
        if one.strings:
            known = [str(value) for value in categories[index]]
            column = graph.add(
                "LabelEncoder", column, domain=ML_DOMAIN, keys_strings=known,
                values_floats=[float(code) for code in range(len(known))], default_float=-1.0,
            )  # fmt: skip
        elif one.values.dtype == np.int64:
            column = graph.add("Cast", column, to=TensorProto.FLOAT)
        columns.append(column)
    matrix = graph.add("Concat", *columns, output=INPUT + "_columns", axis=1)
    write(graph, forest, matrix, tuple(outputs))
    infos = [
        helper.make_tensor_value_info(
            one.name, helper.np_dtype_to_tensor_dtype(one.values.dtype), [batch, 1]
        )
        for one in inputs.every
    ]
    return ensemble_model(graph, forest, infos, tuple(outputs), opset, batch)


def _flatten(proto: onnx.ModelProto) -> None:
    """Labels as [batch]: of outliers skl2onnx makes [batch, 1], unlike of classes."""
    graph, value = proto.graph, proto.graph.output[0]
    shape = onnx.numpy_helper.from_array(np.array([-1]), "flat_shape")
    graph.initializer.append(shape)
    graph.node.append(helper.make_node("Reshape", [value.name, shape.name], ["flat_label"]))
    value.name = "flat_label"


def _settle(graph_model: ir.Model, given: Inputs, outputs: Feeds, batch: int | str) -> None:
    """Our names, the free batch, and only the outputs that the reference has."""
    graph = graph_model.graph
    for value in list(graph.outputs)[len(outputs) :]:
        graph.outputs.remove(value)
    inputs = list(graph.inputs)
    wanted = {one.name for one in given.every} | set(outputs)
    for node in graph:  # skl2onnx has names of its own, and renames inputs that are called so
        for value in node.outputs:
            if value.name in wanted:
                value.name = f"{value.name}_inner"
        if node.op_type == "Tokenizer":  # onnx's shape inference dies of a LabelEncoder behind it
            node.outputs[0].type = ir.TensorType(ir.DataType.STRING)
    for value, one in zip(inputs, given.every, strict=True):
        value.name = one.name
        value.shape = ir.Shape([batch, one.columns])
    for value, (name, array) in zip(graph.outputs, outputs.items(), strict=True):
        value.name = name
        value.shape = ir.Shape([batch, *array.shape[1:]])
