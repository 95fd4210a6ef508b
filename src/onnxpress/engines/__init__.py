"""What executes models, one plug-in per file; found by file name."""
