"""The process that runs onnx2tf: ``MODEL OUTPUT tflite|tensorflow TOLD``.

``TOLD`` is written where the conversion fails: ``{"operators": […]}`` or ``{"reason": …}``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def main(model: Path, output: Path, kind: str, told: Path) -> None:
    """Convert; layouts, names and free dimensions stay as they are in the ONNX file."""
    import onnx
    import onnx2tf

    proto = onnx.load(str(model), load_external_data=False)
    graph = proto.graph
    _pin(graph)
    model = model.with_name("pinned.onnx")  # beside its external data
    onnx.save(proto, str(model))
    constants = {tensor.name for tensor in graph.initializer}
    if kind == "tensorflow":
        from onnxpress.exporters._onnx2tf.mended import mend

        mend()
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        try:
            onnx2tf.convert(
                input_onnx_file_path=str(model),
                output_folder_path=folder,
                flatbuffer_direct_output_saved_model=kind == "tensorflow",
                copy_onnx_input_output_names_to_tflite=True,
                keep_shape_absolutely_input_names=[
                    value.name for value in graph.input if value.name not in constants
                ],
                not_use_onnxsim=True,
                non_verbose=True,
                verbosity="error",
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001  # told to the parent, in one line
            told.write_text(json.dumps(_why(error)))
            return
        written = Path(folder) / f"{model.stem}_float32.tflite"
        if custom := _custom_operators(written):
            spelled = {node.op_type.upper(): node.op_type for node in graph.node}
            told.write_text(json.dumps({"operators": [spelled.get(op, op) for op in custom]}))
        elif kind == "tflite":
            shutil.copyfile(written, output)
        else:
            output.mkdir(exist_ok=True)
            for name in ("saved_model.pb", "fingerprint.pb"):
                shutil.copyfile(Path(folder) / name, output / name)
            shutil.copytree(Path(folder) / "variables", output / "variables")


def _pin(graph: onnx.GraphProto) -> None:
    """``y`` → ``Reshape(Reshape(y, [-1]), Shape(y))`` for outputs that have channels.

    onnx2tf leaves convolutions' outputs channels-last; through a flat tensor no layout goes.
    """
    from onnx import TensorProto, helper

    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    made = {name for node in graph.node for name in node.output}
    for index, output in enumerate(graph.output):
        if output.name not in made or len(output.type.tensor_type.shape.dim) < 3:
            continue
        stem = f"pinned{index}"
        while any(name.startswith(stem) for name in taken):
            stem += "_"
        inner = f"{stem}_inner"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == output.name else name for name in names]
        graph.initializer.append(helper.make_tensor(f"{stem}_flat", TensorProto.INT64, [1], [-1]))
        graph.node.extend(
            [
                helper.make_node("Shape", [inner], [f"{stem}_shape"]),
                helper.make_node("Reshape", [inner, f"{stem}_flat"], [f"{stem}_line"]),
                helper.make_node("Reshape", [f"{stem}_line", f"{stem}_shape"], [output.name]),
            ]
        )


def _custom_operators(written: Path) -> list[str]:
    """The ONNX operators that onnx2tf left as custom ones, which no interpreter has."""
    from ai_edge_litert.schema_py_generated import Model

    held = Model.GetRootAs(written.read_bytes(), 0)
    names = {held.OperatorCodes(i).CustomCode() for i in range(held.OperatorCodesLength())}
    return sorted(name.decode().removeprefix("ONNX_") for name in names if name)


def _why(error: BaseException) -> dict[str, object]:
    """The operators that it names, or its last line that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    named = set(re.findall(r"onnxOp=(\w+)", text))
    if found := re.search(r"unsupported_op_types=\[(.*?)\]", text):
        named |= set(re.findall(r"\w+", found.group(1)))
    if named:
        return {"operators": sorted(named)}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {"reason": f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
