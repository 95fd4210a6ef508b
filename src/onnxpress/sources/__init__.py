"""What reads models of other frameworks, one plug-in per file; found by file name."""
