"""``python -m onnxpress``."""

from onnxpress.cli import main

main()
