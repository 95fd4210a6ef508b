"""``onnxpress verify``: do two models give the same answers?"""

from __future__ import annotations

from typing import Annotated

import typer

from onnxpress import options, screens, terminal


def verify(
    a: Annotated[str, typer.Argument(help="The reference.")],
    b: Annotated[str, typer.Argument(help="The model that should agree with it.")],
    samples: options.OptionalSamples = None,
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    inputs: options.Inputs = None,
    checkpoint: options.Checkpoint = None,
    trust: options.Trust = False,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Compare the outputs of two models, value by value.

    Example: onnxpress verify torch:net.py:make net.onnx --samples random:8
    """
    from onnxpress import api

    result = api.verify(
        a,
        b,
        samples=samples,
        task=task,
        preprocess=preprocess,
        tokenizer=tokenizer,
        limit=limit,
        seed=seed,
        inputs=options.parse_inputs(inputs),
        checkpoint=checkpoint,
        trust=trust,
        custom_ops=custom_ops,
    )
    if as_json:
        terminal.emit_json("verify", {"verified": result.to_dict()})
    elif not quiet:
        screens.show_verified(result.to_dict(), str(result.first_mismatch or ""), verbose=verbose)
    return 0 if result.ok else 3
