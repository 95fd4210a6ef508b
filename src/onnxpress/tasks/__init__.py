"""What a model's tensors mean, one plug-in per file; found by file name."""
