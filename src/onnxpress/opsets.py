"""What each ONNX opset needs: the releases of onnx and ONNX Runtime, and the IR version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from onnxpress.errors import InputError

GUARANTEED = 7
"""The oldest opset that every ONNX Runtime runs (its "Versioning.md")."""
OLDEST_RUNTIME = "1.20"
"""The oldest ONNX Runtime that onnxpress supports; what is installed is this one or newer."""


@dataclass(frozen=True)
class Needs:
    """The first versions that know an opset; ``onnxruntime`` is None where none does yet."""

    onnx: str
    ir: int
    onnxruntime: str | None

    def runs_on(self, runtime: str) -> bool:
        """Whether ONNX Runtime ``runtime`` (``1.20`` or ``1.20.1``) knows the opset."""
        return self.onnxruntime is not None and _release(self.onnxruntime) <= _release(runtime)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def needs(opset: int) -> Needs:
    """Raises ``InputError`` for an opset that there is not."""
    if opset not in NEEDS:
        raise InputError(f"opset {opset}", f"{min(NEEDS)} to {max(NEEDS)}")
    return NEEDS[opset]


def default_opset() -> int:
    """The newest opset that every supported ONNX Runtime runs."""
    return max(opset for opset, wants in NEEDS.items() if wants.runs_on(OLDEST_RUNTIME))


def newest(runtime: str) -> int:
    """The newest opset that ONNX Runtime ``runtime`` runs."""
    return max(opset for opset, wants in NEEDS.items() if wants.runs_on(runtime))


def newest_ir(runtime: str) -> int:
    """The newest IR version that ONNX Runtime ``runtime`` reads: that of its onnx."""
    return NEEDS[newest(runtime)].ir


def newest_ml(runtime: str) -> int:
    """The newest opset of ``ai.onnx.ml`` in the onnx that ONNX Runtime ``runtime`` is built on."""
    known = newest(runtime)
    return max(version for version, opset in ML.items() if opset <= known)


def nearest(opset: int | None, oldest: int, newest: int) -> int:
    """What an exporter that writes ``oldest`` to ``newest`` comes closest to ``opset`` with.

    None is the default one.
    """
    return min(max(default_opset() if opset is None else opset, oldest), newest)


NEEDS: Mapping[int, Needs] = {
    7: Needs("1.2", 3, "0.1"),
    8: Needs("1.3", 3, "0.1"),
    9: Needs("1.4.1", 4, "0.3"),
    10: Needs("1.5.0", 5, "0.4"),
    11: Needs("1.6.0", 6, "1.0"),
    12: Needs("1.7.0", 7, "1.3"),
    13: Needs("1.8.0", 7, "1.6"),
    14: Needs("1.9.0", 7, "1.8"),
    15: Needs("1.10.0", 8, "1.9"),
    16: Needs("1.11.0", 8, "1.11"),
    17: Needs("1.12.0", 8, "1.12"),
    18: Needs("1.13.0", 8, "1.14"),
    19: Needs("1.14.0", 9, "1.15"),
    20: Needs("1.15.0", 9, "1.17"),
    21: Needs("1.16.0", 10, "1.18"),
    22: Needs("1.17.0", 10, "1.21"),
    23: Needs("1.18.0", 11, "1.23"),
    24: Needs("1.19.0", 12, "1.24"),
    25: Needs("1.20.0", 13, "1.24"),
    26: Needs("1.21.0", 13, "1.25"),
    27: Needs("1.22.0", 13, None),
    28: Needs("1.23.0", 14, None),
}
"""Opset of the standard operators → what it needs.

onnx and IR versions are those of ``onnx.helper.VERSION_TABLE``. Those of ONNX Runtime up to 1.14
are from the version matrix of its documentation; later ones were read off the released packages
up to 1.31, by the newest opset that each of them says it supports.
"""

ML: Mapping[int, int] = {1: 7, 2: 11, 3: 16, 4: 20, 5: 21}
"""Opset of ``ai.onnx.ml`` → that of the standard operators in the onnx that brought it.

From ``onnx.helper.VERSION_TABLE``.
"""


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
