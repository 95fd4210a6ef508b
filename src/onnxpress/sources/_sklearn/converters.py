"""Our writers of trees, texts and neighbours as converters of skl2onnx, also inside pipelines."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from onnx import TensorProto
from skl2onnx import _parse, _supported_operators, update_registered_converter
from skl2onnx.common import _registration
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from onnxpress.sources._sklearn import neighbours
from onnxpress.sources._sklearn.container import put
from onnxpress.sources._sklearn.isolation import convert_isolation
from onnxpress.sources._sklearn.ordinals import convert_ordinals
from onnxpress.sources._sklearn.text import convert_text, convert_weights
from onnxpress.trees import hist_gradient, lightgbm, sklearn, xgboost
from onnxpress.trees.digits import require_float32
from onnxpress.trees.forest import Forest
from onnxpress.trees.graph import Graph, write

Reader = Callable[[Any], Forest | None]
OURS = {
    "SklearnCountVectorizer": convert_text,
    "SklearnTfidfTransformer": convert_weights,
    "SklearnOrdinalEncoder": convert_ordinals,
    "SklearnIsolationForest": convert_isolation,
    "SklearnKNeighborsClassifier": neighbours.convert_classifier,
    "SklearnKNeighborsRegressor": neighbours.convert_regressor,
}
"""Converters in place of skl2onnx's, whose names they bear; others of it call some of them too."""
_TURN = threading.Lock()
_GLOBALS = (
    _supported_operators.sklearn_operator_name_map,
    _parse.sklearn_parsers_map,
    _registration._converter_pool,
    _registration._shape_calculator_pool,
)
"""skl2onnx's registry, which is one for the whole process: changed for one conversion only."""


def reader_of(model: Any) -> Reader | None:
    """What reads this model's trees, where we write them ourselves."""
    name, package = type(model).__name__, type(model).__module__.partition(".")[0]
    if package == "sklearn" and name.startswith("HistGradientBoosting"):
        return hist_gradient.forest_of
    if package == "xgboost" and name.startswith("XGB"):
        return xgboost.forest_of_wrapper
    if package == "lightgbm" and name.startswith("LGBM"):
        return lightgbm.forest_of_wrapper
    return sklearn.forest_of if package == "sklearn" and sklearn.forest_of(model) else None


@contextlib.contextmanager
def registered(last: Any) -> Iterator[None]:
    """While this lasts, skl2onnx writes texts, neighbours and trees with our writers.

    Of trees those that it cannot write, wherever they stand; others only where ``last``, the
    model's last estimator, is one: ensembles of scikit-learn look into their members' graphs.
    """
    with _TURN:
        kept = [dict(table) for table in _GLOBALS]
        try:
            for cls in {*_classes(), *([type(last)] if reader_of(last) else [])}:
                classifies = hasattr(cls, "predict_proba")
                options = {"zipmap": [True, False, "columns"], "nocl": [True, False],
                           "raw_scores": [True, False]}  # fmt: skip
                update_registered_converter(
                    cls,
                    f"Onnxpress{cls.__name__}",
                    calculate_linear_classifier_output_shapes
                    if classifies
                    else calculate_linear_regressor_output_shapes,
                    _convert,
                    overwrite=True,
                    options=options if classifies else None,
                )
            for name, convert in OURS.items():
                options = _registration.get_converter(name).get_allowed_options()
                _registration.register_converter(name, convert, overwrite=True, options=options)
            yield
        finally:
            for table, old in zip(_GLOBALS, kept, strict=True):
                table.clear()
                table.update(old)


def _classes() -> Iterator[type]:
    from sklearn import ensemble, tree

    for module, kinds in (
        (ensemble, ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")),
        (tree, ("DecisionTreeClassifier", "DecisionTreeRegressor")),
        (sys.modules.get("xgboost"), _wrappers("XGB")),
        (sys.modules.get("lightgbm"), _wrappers("LGBM")),
    ):
        for kind in kinds:
            cls = getattr(module, kind, None)
            if cls is not None:
                yield cls


def _wrappers(prefix: str) -> tuple[str, ...]:
    kinds = ("Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")
    return tuple(prefix + kind for kind in kinds)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    read = reader_of(model)
    assert read is not None
    forest = read(model)
    assert forest is not None
    require_float32(forest, getattr(model, "feature_names_in_", ()), type(model).__name__)
    graph = Graph(scope.get_unique_operator_name("trees") + "_")
    features = operator.inputs[0].full_name
    if not isinstance(operator.inputs[0].type, FloatTensorType):
        features = graph.add("Cast", features, to=TensorProto.FLOAT)
    outputs = tuple(output.full_name for output in operator.outputs)
    raw = forest.classes is not None and scope.get_options(model, {"raw_scores": False})
    write(graph, forest, features, outputs, raw=bool(raw and raw["raw_scores"]))
    put(graph, container)
