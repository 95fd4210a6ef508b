"""One quantisation scheme, with what it gained and what it cost."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onnx_ir.passes.common import NameFixPass

from onnxpress.errors import InputError
from onnxpress.macs import macs_per_node
from onnxpress.model import Model, load
from onnxpress.progress import Progress
from onnxpress.quantization import check_bits
from onnxpress.recipe import Recipe
from onnxpress.runner import Artifact, Runner, peak_rss_bytes
from onnxpress.samples import Record, Samples
from onnxpress.settings import Settings
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Quality
from onnxpress.verbs.calibrate import applied
from onnxpress.verbs.executed import int8_macs_share
from onnxpress.verbs.feeds import sample_feeds
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.score import score

CALIBRATION = 128
SCORING_ROWS = 8
FLOAT, INT8 = "float32", "quantized"


@dataclass(frozen=True)
class Quantized:
    """The quantised model, measured from its saved file beside the float one.

    ``holds`` is None where no floor was asked for. ``kept_float`` names the layers that stayed
    in float and why. ``int8_macs_share`` is the share of the multiply-adds that the engine ran in
    int8, 0 to 1.
    """

    model: Model
    scheme: str
    engine: str
    before_bytes: int
    after_bytes: int
    measured: Measured
    quality: Quality
    floor: float | None
    kept_float: tuple[str, ...]
    calibration_samples: int
    peak_rss_bytes: int
    int8_macs_share: float
    random_samples: bool
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool | None:
        return None if self.floor is None else self.quality.low >= self.floor

    def to_dict(self) -> dict[str, object]:
        rows = {row.name: row for row in self.measured.rows}
        speedup = rows[INT8].speedup
        return {
            "scheme": self.scheme,
            "engine": self.engine,
            "before": {
                "size_bytes": self.before_bytes,
                "latency_ms": rows[FLOAT].latency_ms.to_dict(),
            },
            "after": {
                "size_bytes": self.after_bytes,
                "latency_ms": rows[INT8].latency_ms.to_dict(),
            },
            "quality": self.quality.to_dict(),
            "floor": self.floor,
            "holds": self.holds,
            "faster": bool(speedup and speedup.low > 1),
            "speedup": speedup.to_dict() if speedup else None,
            "kept_float": [
                dict(zip(("node", "why"), reason.split(": ", 1), strict=False))
                for reason in self.kept_float
            ],
            "calibration": {
                "samples": self.calibration_samples,
                "peak_rss_bytes": self.peak_rss_bytes,
            },
            "executed": {"int8_macs_share": self.int8_macs_share},
            "random_samples": self.random_samples,
            "warnings": list(self.warnings),
        }


def recipe_for(scheme: str, calibrator: str, bits: int) -> Recipe:
    """Raises ``InputError`` for a scheme that there is not."""
    recipes = {
        "dynamic": f"quantize_dynamic(weight_bits={bits})",
        "static": f"quantize_static(weight_bits={bits}, calibrator={calibrator})",
        "weight-only": f"quantize_weights(bits={bits})",
    }
    if scheme not in recipes:
        raise InputError(f"--scheme {scheme}", f"one of {', '.join(recipes)}")
    check_bits("--bits", bits)
    return Recipe.parse(recipes[scheme])


def quantize(
    model: Model,
    bound: Bound,
    samples: Samples,
    *,
    scheme: str,
    calibrator: str,
    bits: int,
    settings: Settings,
    floor: float | None,
    seed: int,
    progress: Progress,
) -> Quantized:
    """Apply ``scheme`` and compare the saved file with the float model on ``settings``' engine.

    Raises ``InputError`` where the scheme finds nothing to rewrite in the model.
    """
    recipe = recipe_for(scheme, calibrator, bits)
    model = model.clone()
    NameFixPass()(model.ir)  # engines tell what they ran by the nodes' names
    calibrating: Samples | None = None
    scoring = samples
    if recipe.needs():
        share = max(1, min(CALIBRATION, len(samples) // 5))
        calibrating, scoring = samples.split(share, seed)
        progress("calibrating", 0, len(calibrating))
    feeds = sample_feeds(bound, calibrating or samples, model.signature, rows=4)
    quantized, change = applied(recipe, model, feeds, settings.threads)
    peak = peak_rss_bytes()
    if not change.changed:
        why = "; ".join(change.reasons) or "it has no linear operator with constant weights"
        raise InputError(
            f"scheme {scheme} changes nothing in this model: {why}", "a model to quantise"
        )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxpress-")))
        before = model.clone().save(folder / "float.onnx")
        after = quantized.save(folder / "quantized.onnx")
        targets = {FLOAT: Artifact(before, settings), INT8: Artifact(after, settings)}
        runners: dict[str, Runner] = {}
        for key, target in targets.items():
            runners[key] = open_runner(target)
            stack.callback(runners[key].close)
        qualities, failures = score(runners, FLOAT, bound, scoring, folder, SCORING_ROWS, progress)
        sizes = {key: load(target.path).file_bytes for key, target in targets.items()}
        candidates = [
            Candidate(key, target, settings.engine, key, sizes[key])
            for key, target in targets.items()
        ]
        batch = static_batch(model.signature) or 1
        measured = measure(
            candidates,
            bound.encode([_first(scoring)] * batch),
            baseline=FLOAT,
            batch=batch,
            progress=progress,
        )
        for why in (*failures.values(), *measured.failures.values()):
            raise InputError(why, f"a model that {settings.engine} runs")
        in_int8 = int8_macs_share(runners[INT8].executed(), macs_per_node(model))
    quantized.path = None
    return Quantized(
        model=quantized,
        scheme=scheme,
        engine=settings.engine,
        before_bytes=sizes[FLOAT],
        after_bytes=sizes[INT8],
        measured=measured,
        quality=qualities[INT8],
        floor=floor,
        kept_float=change.refusals,
        calibration_samples=0 if calibrating is None else len(calibrating),
        peak_rss_bytes=peak,
        int8_macs_share=in_int8,
        random_samples=samples.random,
    )


def _first(samples: Iterable[Record]) -> Record:
    return next(iter(samples))
