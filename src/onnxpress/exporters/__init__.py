"""Formats that an ONNX model goes out to, one a file."""
