"""What is wrong with a model, or will be where it shall run; each finding with its fix."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxpress import registry
from onnxpress.calibrator import Range
from onnxpress.errors import InputError
from onnxpress.external_data import external_tensors, fault
from onnxpress.finding import ANYWHERE, ARM, X86, Check, Finding, Target
from onnxpress.machine import ISA_OF_FLAG, this_machine
from onnxpress.model import Model
from onnxpress.opsets import newest, newest_ir
from onnxpress.provider import parse_provider
from onnxpress.signature import Feeds
from onnxpress.values import opset
from onnxpress.verbs.kernels import kernels
from onnxpress.verbs.observe import observe
from onnxpress.verbs.opset import in_opset

RUNTIME = "onnxruntime"
SEVERITY = ("error", "warning", "info")
ON_ARM = ("NEON", "DOTPROD", "I8MM", "ARM_BF16", "SVE")


@dataclass(frozen=True)
class Checked:
    """The findings, errors first. ``skipped`` are the checks that could not be made, and why."""

    findings: tuple[Finding, ...]
    target: Target
    skipped: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return all(finding.level != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "target": {
                "runtime": self.target.runtime,
                "provider": self.target.provider,
                "isa": None if self.target.isa is None else list(self.target.isa),
            },
            "skipped": dict(self.skipped),
        }


def check(
    model: Model,
    target: Target = ANYWHERE,
    batches: Callable[[], Iterable[Feeds]] | None = None,
) -> Checked:
    """Every check of the registry on ``model``; ``batches`` are samples to watch it on.

    The model may be one whose external data must not be read (``model.peek``): then only the
    checks are made that need no weights. Raises ``EngineError`` where it fails on the samples.
    """
    unread = ""
    if model.path is not None and any(fault(t, model.path) for t in external_tensors(model.ir)):
        unread = "the weights cannot be read"
    elif batches is not None:
        target = replace(target, ranges=_ranges(model, batches))
    if not unread and _is_installed(target) and _has_libraries(model):
        provider = target.provider if target.provider in _available() else ""
        target = replace(target, kernels=kernels(model, provider))
    if not unread:
        target = replace(target, no_way_down=_no_way_down(model, target.runtime))
    inlined = model.inlined()
    found: list[Finding] = []
    skipped = {}
    for name in registry.names("checks"):
        step = registry.create(Check, "checks", name)
        if unread and step.reads_data:
            skipped[name] = unread
        else:
            found += step.findings(inlined, target)
    found.sort(key=lambda finding: SEVERITY.index(finding.level))
    return Checked(tuple(found), target, skipped)


def target_of(
    runtime: str | None = None, isa: Sequence[str] = (), provider: str | None = None
) -> Target:
    """Where a model shall run: here, but for what is said.

    ``runtime`` is ``onnxruntime==1.16``, ``isa`` names instruction sets, ``provider`` is
    ``NAME`` or ``NAME:key=value,…``. Raises ``InputError`` for what there is not.
    """
    version, asked = installed(), runtime is not None
    if runtime is not None:
        version = _version(runtime)
    name, options = parse_provider(provider) if provider else ("", {})
    machine = this_machine()
    architecture = ARM if machine.architecture in ("arm64", "aarch64") else machine.architecture
    sets: tuple[str, ...] | None = machine.isa or None
    if isa:
        sets = tuple(_isa(text) for text in isa)
        architecture = ARM if set(sets) & set(ON_ARM) else X86
    return Target(version, asked, name, options, architecture, sets)


def installed() -> str:
    """The version of the ONNX Runtime that is here, empty for none."""
    if importlib.util.find_spec(RUNTIME) is None:
        return ""
    import onnxruntime

    return str(onnxruntime.__version__)


def _version(text: str) -> str:
    found = re.fullmatch(r"(?:onnxruntime(?:==|>=|-)?)?v?(\d+\.\d+(?:\.\d+)?)", text.strip())
    if not found:
        raise InputError(f"--runtime {text}", "ONNX Runtime's version, such as onnxruntime==1.16")
    return found[1]


def _isa(text: str) -> str:
    known = list(ISA_OF_FLAG.values())
    name = text.strip().upper().replace("-", "_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        raise InputError(
            f"--isa has the unknown instruction set '{text.strip()}'",
            f"some of {', '.join(known)}",
            f"did you mean {near[0]}?" if near else "join several by commas: --isa AVX2,FMA",
        )
    return name


def _no_way_down(model: Model, runtime: str) -> str:
    """Why no converter gets the model to what ``runtime`` knows; empty where none is needed."""
    if not runtime:
        return ""
    known = newest(runtime)
    if not (opset(model.ir) > known or model.ir.ir_version > newest_ir(runtime)):
        return ""
    try:
        in_opset(model, min(opset(model.ir) or known, known))
    except InputError as error:
        return error.found
    return ""


def _ranges(model: Model, batches: Callable[[], Iterable[Feeds]]) -> dict[str, Range]:
    seen = observe(model, batches()).tensors
    return {name: Range(each.low, each.high) for name, each in seen.items()}


def _is_installed(target: Target) -> bool:
    """Whether the ONNX Runtime here is the one that is meant: 1.31 means every 1.31.x."""
    here = installed()
    return bool(here) and f"{here}.".startswith(f"{target.runtime}.")


def _has_libraries(model: Model) -> bool:
    return model.custom_ops is not None or not model.custom_operators


def _available() -> Sequence[str]:
    import onnxruntime

    return [
        name for name in onnxruntime.get_available_providers() if name != "CPUExecutionProvider"
    ]
