"""Graph rewrites, one plug-in per file; found by file name."""
