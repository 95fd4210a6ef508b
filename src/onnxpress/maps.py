"""Values that are maps, as ZipMap makes them: they are no tensors, and onnx-ir has no such type."""

from __future__ import annotations

from pathlib import Path

import onnx

from onnxpress.errors import ModelError

NO_ZIPMAP = (
    "from scikit-learn export it with skl2onnx's options={'zipmap': False}, "
    "or by: onnxpress convert PIPELINE.skops -o MODEL.onnx"
)


def refusal(path: Path) -> ModelError | None:
    """What to tell of the whole ONNX file at ``path`` where a value of its graph is a map.

    Raises what ``onnx.load`` does for a file that is damaged.
    """
    graph = onnx.load(path, "protobuf", load_external_data=False).graph
    zipped = {name for node in graph.node if node.op_type == "ZipMap" for name in node.output}
    places = {"input": graph.input, "output": graph.output, "value": graph.value_info}
    for place, values in places.items():
        for value in values:
            if _has_map(value.type):
                made = ", as ZipMap makes them" if value.name in zipped else ""
                found = f"{path}: the {place} '{value.name}' is no tensor but maps{made}"
                fix = NO_ZIPMAP if made else "export it without the step that has them"
                return ModelError(found, "tensors", fix)
    return None


def _has_map(kind: onnx.TypeProto) -> bool:
    for name in ("sequence_type", "optional_type"):
        if kind.HasField(name):
            return _has_map(getattr(kind, name).elem_type)
    return bool(kind.HasField("map_type"))
