"""Mends of onnx2tf 2.6.9's writer of SavedModels; the version is pinned for them.

- It gives ``tf.nn.depthwise_conv2d`` four dilations where two are expected: every MobileNet fails.
- It takes a Reshape to a computed shape for one to a scalar; LiteRT reads the computed shape.
- After such a Reshape the rank is unknown, and Transpose fails: set it.
- TFLite has no scalars on this path, and Gather makes them: a value has the rank of its tensor.
- GELU, which its TFLite files use, has no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mend() -> None:
    """Replace what fails, in this process."""
    import tensorflow as tf
    from onnx2tf.tflite_builder import saved_model_exporter as writer

    assign = writer._GraphExecutor._assign_outputs

    def assign_ranked(executor: Any, op: Any, values: Sequence[Any], env: Any) -> None:
        assign(
            executor,
            op,
            [ranked(executor, *pair) for pair in zip(op.outputs, values, strict=True)],
            env,
        )

    def ranked(executor: Any, name: object, value: Any) -> Any:
        known = executor.model_ir.tensors.get(str(name))
        if known is None or value is None:
            return value
        if value.shape.rank is None:
            value.set_shape([None] * len(known.shape))
        return tf.reshape(value, [1]) if value.shape.rank == 0 and len(known.shape) == 1 else value

    def reshape(executor: Any, op: Any, env: Any) -> None:
        x = executor._resolve_tensor(op.inputs[0], env)
        stated = list(op.options.get("newShape", []))
        computed = not stated and len(op.inputs) > 1
        shape = executor._resolve_tensor(op.inputs[1], env) if computed else stated
        executor._assign_outputs(op, [tf.reshape(x, tf.cast(shape, tf.int32))], env)

    def depthwise(executor: Any, op: Any, env: Any) -> None:
        """Weights are 1×H×W×(C·M) in TFLite and H×W×C×M in TensorFlow."""
        x, weights = (executor._resolve_tensor(name, env) for name in op.inputs[:2])
        _, height, width, channels = weights.shape
        times = int(op.options.get("depthMultiplier", 1))
        stride_h, stride_w = (int(op.options.get(f"stride{axis}", 1)) for axis in "HW")
        y = tf.nn.depthwise_conv2d(
            x,
            tf.reshape(weights, [height, width, channels // times, times]),
            strides=[1, stride_h, stride_w, 1],
            dilations=[int(op.options.get(f"dilation{axis}Factor", 1)) for axis in "HW"],
            padding=str(op.options.get("padding", "SAME")).upper(),
        )
        if (
            len(op.inputs) > 2
            and (bias := executor._resolve_optional_tensor(op.inputs[2], env)) is not None
        ):
            y = tf.nn.bias_add(y, bias)
        fused = str(op.options.get("fusedActivationFunction", "NONE"))
        executor._assign_outputs(op, [writer._apply_fused_activation(y, fused)], env)

    def gelu(executor: Any, op: Any, env: Any) -> None:
        x = executor._resolve_tensor(op.inputs[0], env)
        approximate = bool(op.options.get("approximate", False))
        executor._assign_outputs(op, [tf.nn.gelu(x, approximate=approximate)], env)

    writer._GraphExecutor._assign_outputs = assign_ranked
    writer._REGISTERED_KERNELS.update(DEPTHWISE_CONV_2D=depthwise, GELU=gelu, RESHAPE=reshape)
    writer.SUPPORTED_KERNEL_OP_TYPES = {*writer.SUPPORTED_KERNEL_OP_TYPES, "GELU"}
