"""``onnxpress demo``: the main job on a small real model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal
from onnxpress.commands.run import run
from onnxpress.errors import InputError


def demo(
    name: Annotated[Literal["digits"], typer.Argument(help="Which demo.")] = "digits",
    output: options.Output = Path("demo"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Train a small CNN on handwritten digits, press it, and classify a held-out digit.

    Example: onnxpress demo digits -o demo/
    """
    from onnxpress import api
    from onnxpress.bundle import refuse_foreign
    from onnxpress.demos import digits
    from onnxpress.pressing.result import Pressed

    out = terminal.console()
    bundle = output / "bundle"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} ({error.strerror})", "a folder") from error
    entries = {path.name for path in output.iterdir()}
    if entries and digits.CHECKPOINT not in entries:
        raise InputError(f"{output} holds other things", "a new folder, or that of a demo")
    refuse_foreign(bundle)
    shutil.rmtree(output / "held-out", ignore_errors=True)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        trained = digits.train(output, progress)
        if not quiet and not as_json:
            out.print(f"trained on {name}: {trained.accuracy:.2%} of held-out images right")
        result = api.press(
            "torch:onnxpress.demos.digits:make",
            samples=trained.images,
            preprocess=digits.PREPROCESS,
            checkpoint=trained.checkpoint,
            output=bundle,
            progress=progress,
        )
    assert isinstance(result, Pressed)
    data = {**result.to_dict(), "accuracy": trained.accuracy}
    if as_json:
        terminal.emit_json("demo", data)
    elif not quiet:
        screens.show_pressed(data)
    if result.bundle is None:
        return 3
    if as_json or quiet:
        return 0
    out.print(f"\nonnxpress run {bundle} {trained.held_out}", markup=False)
    run(bundle, [str(trained.held_out)])
    out.print(f"(it is a {trained.held_out_label})", markup=False)
    return 0
