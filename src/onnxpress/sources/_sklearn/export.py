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
from onnxpress.trees.classes import categories_of, classes_of
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

NO_WORD = "\x00"
"""Stands for a missing string, which skl2onnx must be given one for."""


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
    if is_outlier_detector(model) or is_classifier(model):
        _mend_label(proto, classes_of(model) if is_classifier(model) else None)
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
    """``model``, or a twin without what skl2onnx fails on, in whatever it is made of too.

    ``flatten_transform`` of voting, which only ``transform`` reads, weights that are a list, and
    words that an imputer takes for missing: no string of ONNX is.
    """
    changed: dict[str, Any] = {}
    for name in ("steps", "transformer_list", "transformers_", "estimators_"):
        members = getattr(model, name, None)
        if isinstance(members, list):
            twins = [_twin(member) for member in members]
            if any(twin is not member for twin, member in zip(twins, members, strict=True)):
                changed[name] = twins
    if hasattr(model, "best_estimator_"):
        best = _convertible(model.best_estimator_)
        if best is not model.best_estimator_:
            changed["best_estimator_"] = best
    if getattr(model, "flatten_transform", False):
        changed["flatten_transform"] = False
    if type(model).__name__.startswith("Voting") and isinstance(model.weights, list | tuple):
        changed["weights"] = np.asarray(model.weights)
    if type(model).__name__ == "SimpleImputer" and isinstance(model.statistics_[0], str):
        changed["missing_values"] = NO_WORD
    if not changed:
        return model
    twin = copy.copy(model)
    vars(twin).update(changed)
    return twin


def _twin(member: Any) -> Any:
    """``_convertible`` of an estimator, or of the one in a tuple of its name and what it is for."""
    if not isinstance(member, tuple):
        return _convertible(member)
    label, step, *rest = member
    twin = _convertible(step)
    return member if twin is step else (label, twin, *rest)


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


def _mend_label(proto: onnx.ModelProto, classes: tuple[int, ...] | tuple[str, ...] | None) -> None:
    """The label as [batch]; of a classifier that stops at the place of the class, the class.

    skl2onnx makes [batch, 1] of outliers, [1, batch] in discriminant analysis and [batch, 1] of
    places in one-vs-one.
    """
    graph, value = proto.graph, proto.graph.output[0]
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by[value.name]
    while node.op_type in ("Cast", "Identity") and node.input[0] in made_by:
        node = made_by[node.input[0]]
    places = node.op_type == "ArgMax"
    if classes is not None and not (places or node.op_type == "ArrayFeatureExtractor"):
        return
    shape = onnx.numpy_helper.from_array(np.array([-1]), "flat_shape")
    graph.initializer.append(shape)
    source, label = node.output[0] if places else value.name, "flat_label"
    graph.node.append(helper.make_node("Reshape", [source, shape.name], [label]))
    if classes is not None and places:
        strings = isinstance(classes[0], str)
        known = np.array(classes, object if strings else np.int64)
        graph.initializer.append(onnx.numpy_helper.from_array(known, "known_classes"))
        graph.node.append(helper.make_node("Gather", ["known_classes", label], ["known_label"]))
        label = "known_label"
        value.type.tensor_type.elem_type = TensorProto.STRING if strings else TensorProto.INT64
    value.name = label


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
