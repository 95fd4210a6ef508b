"""``onnxpress doctor``: what this machine offers and what is missing."""

from __future__ import annotations

from onnxpress import options, screens, terminal


def doctor(
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Show engines, providers, instruction sets, cores, container quota and versions.

    Example: onnxpress doctor
    """
    from onnxpress.verbs import doctor as verb

    result = verb.doctor()
    if as_json:
        terminal.emit_json("doctor", result)
    elif not quiet:
        screens.show_doctor(result, verbose=verbose)
    return 0
