"""``onnxpress view``: the graph in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import options, terminal


def view(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    port: Annotated[int, typer.Option(help="On this machine; 0 is any free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only serve the page and print its address.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Show the graph with Netron in a browser, until Ctrl-C; nothing leaves this machine.

    Example: onnxpress view model.onnx
    """
    import contextlib
    import sys
    import webbrowser

    from onnxpress.verbs.view import served

    with served(model, port) as (server, address), contextlib.suppress(KeyboardInterrupt):
        if as_json:
            terminal.emit_json("view", {"model": str(model), "address": address})
        elif not quiet:
            terminal.console().print(f"{model} at {address} until Ctrl-C", markup=False)
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(address)
        server.serve_forever()
    return 0
