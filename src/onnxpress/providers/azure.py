"""Calls models on Azure from a graph; takes no node of an ordinary model."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Azure(Provider):
    """Calls models on Azure from a graph; takes no node of an ordinary model."""

    title = "AzureExecutionProvider"
    package = "onnxruntime"
    hardware = "None: a service on the network."
    needs = "A model with the Azure operators of onnxruntime-extensions, and a key."
    use_when = "A graph was written to call a service."
    limits = "Everything else of the graph runs on the CPU."
    source = "https://onnxruntime.ai/docs/execution-providers/Azure-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {}
