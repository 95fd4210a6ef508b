"""One file per execution provider of ONNX Runtime: see ``onnxpress.provider``."""
