"""Ensembles of decision trees, whoever trained them: read, written as ONNX, probed."""
