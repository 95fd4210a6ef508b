"""The commands of the command line, one plug-in per file; found by file name."""
