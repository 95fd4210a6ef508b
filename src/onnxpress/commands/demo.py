"""``onnxpress demo``: the main job on a small real model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal


def demo(
    name: Annotated[Literal["digits"], typer.Argument(help="Which demo.")] = "digits",
    output: options.Output = Path("demo"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Train a small CNN on handwritten digits, press it, and classify a held-out digit.

    Example: onnxpress demo digits -o demo/
    """
    from onnxpress import api, predictor
    from onnxpress.bundle import refuse_foreign
    from onnxpress.demos import digits
    from onnxpress.pressing.result import Pressed

    out = terminal.console()
    bundle = output / "bundle"
    output.mkdir(parents=True, exist_ok=True)
    refuse_foreign(bundle)
    shutil.rmtree(output / "held-out", ignore_errors=True)
    with terminal.progress(quiet=quiet) as progress:
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
    with predictor.open(bundle) as opened:
        answer = opened.predict([trained.held_out])[0]
    if not as_json and not quiet:
        assert isinstance(answer, dict)
        out.print(
            f"\nonnxpress run {bundle} {trained.held_out}\n"
            f"{trained.held_out.name}: {answer['class']} ({answer['score']:.1%}); "
            f"it is a {trained.held_out_label}",
            markup=False,
        )
    return 0
