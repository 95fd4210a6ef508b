"""What turns observed activations into ranges, one plug-in per file; found by file name."""
