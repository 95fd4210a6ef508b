"""``onnxpress doctor``: what this machine offers and what is missing."""

from __future__ import annotations

from onnxpress import options, screens, terminal


def doctor(as_json: options.Json = False) -> int:
    """Show engines, providers, instruction sets, cores, container quota and versions.

    Example: onnxpress doctor
    """
    from onnxpress.verbs import doctor as verb

    result = verb.doctor()
    if as_json:
        terminal.emit_json("doctor", result)
    else:
        screens.show_doctor(result)
    return 0
