"""One use case a file; each takes models or references and returns a frozen result."""
