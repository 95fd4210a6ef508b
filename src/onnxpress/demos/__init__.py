"""Small real models that ``onnxpress demo`` trains and presses."""
