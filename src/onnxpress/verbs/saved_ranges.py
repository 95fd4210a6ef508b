"""Ranges of activations that are kept in a file and used again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxpress.calibrator import Range
from onnxpress.errors import InputError, writing
from onnxpress.model import Model
from onnxpress.recipe import Ranges
from onnxpress.verbs.schemes import HELPERS

FORMAT = "onnxpress ranges"


@dataclass(frozen=True)
class SavedRanges:
    """The ranges of one model's activations, by one calibrator for one type of integers.

    ``helpers`` are those of ``schemes.HELPERS`` that were chosen with them: some change the model
    before it is observed. ``graph`` is the fingerprint of the graph that they are of, whatever its
    weights are.
    """

    path: Path
    need: Ranges
    values: Mapping[str, Range]
    samples: int
    helpers: tuple[str, ...]
    graph: str

    @classmethod
    def load(cls, path: Path) -> SavedRanges:
        """Raises ``InputError`` where the file holds no ranges."""
        expected = "a file that an earlier --ranges wrote"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT or data["version"] != 1:
                raise InputError(f"{path} is no file of ranges", expected)
            need = Ranges(data["calibrator"], data["activations"])
            values = {
                name: Range(float(low), float(high)) for name, (low, high) in data["ranges"].items()
            }
            if any(not span.low <= span.high for span in values.values()):
                raise InputError(f"{path} has a range that ends before it begins", expected)
            helpers = tuple(data["helpers"])
            if not set(helpers) <= set(HELPERS):
                raise InputError(f"{path} asks for {', '.join(map(str, helpers))}", expected)
            return cls(path, need, values, int(data["samples"]), helpers, str(data["graph"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} holds no ranges ({type(error).__name__})", expected) from None

    def save(self) -> None:
        """Write the file, whole or not at all. Raises ``InputError`` where that fails."""
        data = {
            "format": FORMAT,
            "version": 1,
            "calibrator": self.need.calibrator,
            "activations": self.need.dtype,
            "graph": self.graph,
            "helpers": list(self.helpers),
            "samples": self.samples,
            "ranges": {name: [span.low, span.high] for name, span in self.values.items()},
        }
        part = self.path.with_name(f".{self.path.name}.part")
        with writing(self.path):
            part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            part.replace(self.path)

    def of(self, need: Ranges) -> Mapping[str, Range]:
        """Raises ``InputError`` where the file has those of another calibrator or type."""
        if need != self.need:
            raise InputError(
                f"{self.path} holds ranges by {self.need.calibrator} for {self.need.dtype}",
                f"ranges by {need.calibrator} for {need.dtype}",
                f"give --calibrator '{self.need.calibrator}' --activations {self.need.dtype}, "
                "or --ranges a new file",
            )
        return self.values

    def check(self, model: Model) -> None:
        """Raise ``InputError`` where these are the ranges of another model."""
        if self.graph != fingerprint(model):
            raise InputError(
                f"{self.path} holds ranges of another model",
                "those of this one's activations",
                "give --ranges a new file",
            )


def fingerprint(model: Model) -> str:
    """Of the operators of a graph and the names of what they compute."""
    told = "\n".join(
        " ".join([node.op_type, *(str(value.name) for value in node.outputs)])
        for node in model.ir.graph
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]
