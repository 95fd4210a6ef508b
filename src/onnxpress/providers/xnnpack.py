"""XNNPACK's kernels for the CPU."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Xnnpack(Provider):
    """XNNPACK's floating-point and int8 kernels for small CPUs."""

    title = "XnnpackExecutionProvider"
    hardware = "ARM CPUs of phones and boards; x86 and WebAssembly, too."
    needs = "A build with `--use_xnnpack`; the Android and iOS packages have it."
    use_when = "A CNN in float32 runs on a phone's CPU."
    limits = (
        "It has a thread pool of its own: set ONNX Runtime's to one thread without spinning "
        "(`--threads 1 --session session.intra_op.allow_spinning=0`)."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "intra_op_num_threads": Option("threads of its own pool", "integer", "1"),
    }
