"""What looks at a model and reports findings, one plug-in per file; found by file name."""
