"""One quantisation scheme, with what it gained and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxpress.macs import all_macs
from onnxpress.model import Model
from onnxpress.progress import Progress
from onnxpress.recipe import Change, Recipe
from onnxpress.runner import peak_rss_bytes
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.task import DEFAULT_FLOOR, Bound, Quality
from onnxpress.values import name_nodes
from onnxpress.verbs.comparison import FLOAT, QUANTIZED, Comparison
from onnxpress.verbs.feeds import sample_feeds
from onnxpress.verbs.kept import kept_float
from onnxpress.verbs.patterns import matching
from onnxpress.verbs.quantized import Quantized
from onnxpress.verbs.quantizer import ROWS, Quantizer
from onnxpress.verbs.samples_seen import refuse_nan
from onnxpress.verbs.schemes import Scheme, excluding, nothing_to_quantize, refuse_quantized
from onnxpress.verbs.sensitivity import Ranking, fewest


def quantize(
    model: Model,
    bound: Bound,
    samples: Samples,
    scheme: Scheme,
    *,
    settings: Settings,
    exclude: Sequence[str] = (),
    ranges: Path | None = None,
    floor: float | None,
    rank: bool = False,
    seed: int,
    progress: Progress,
) -> Quantized:
    """Apply ``scheme`` and compare the saved file with the float model on ``settings``' engine.

    Nodes that ``exclude`` matches stay float. ``ranges`` is a file that the ranges are read from,
    or written to where there is none. Where ``floor`` does not hold, the most sensitive layers
    are kept in float, as few as it takes; ``rank`` tells the ranking in any case.

    Raises ``InputError`` where the model is quantised already or the scheme finds nothing to
    rewrite in it, where a pattern matches nothing, and for samples that do not fit.
    """
    refuse_quantized(model)
    tuned = replace(settings, options={**settings.options, **scheme.options})
    model = model.clone()
    name_nodes(model.ir)  # that is how nodes are found again
    excluded = matching(model, exclude, "--exclude") if exclude else ()
    refuse_nan(samples, sample_feeds(bound, samples, model.signature, ROWS))
    quantizer = Quantizer(
        model,
        bound,
        samples,
        scheme,
        settings=tuned,
        excluded=excluded,
        ranges=ranges,
        seed=seed,
        progress=progress,
    )
    recipe = quantizer.best()
    quantized, change = quantizer.search.build(recipe)
    if not change.changed:
        raise nothing_to_quantize(scheme, quantizer.ready, change.reasons)
    ranking = quantizer.search.ranking(recipe) if rank else None
    peak = peak_rss_bytes()
    warnings = list(quantizer.warnings)
    kept: dict[str, str] = {}
    with Comparison(model, bound, quantizer.scoring, settings, tuned, progress) as comparison:
        found = _Found(recipe, quantized, change, comparison.quality(quantized))
        if floor is not None and found.quality.low < floor:
            count = found.quality.n
            if bound.provable(count) < floor:
                warnings.append(
                    f"{count} samples cannot prove the floor {floor:g}: a perfect model would "
                    f"need {bound.needed(floor) or 'more'} of them"
                )
            else:
                ranking = ranking or quantizer.search.ranking(recipe)
                holding = _holding(floor, recipe, ranking, quantizer, comparison)
                if holding is None:
                    warnings.append("no choice of layers to keep in float holds the floor")
                else:
                    found, names = holding
                    kept = _why(names, ranking)
        measured = comparison.measured(found.model)
        executed = comparison.executed()
    if floor is None and found.quality.value < DEFAULT_FLOOR:
        warnings.append(
            f"the quality is only {found.quality.value:.4f}: with --floor {DEFAULT_FLOOR} the "
            "layers that suffer most stay in float"
        )
    if comparison.sizes[QUANTIZED] > comparison.sizes[FLOAT]:
        warnings.append("the file is larger than the float one")
    found.model.path = None
    quantizer.save_ranges(found.recipe)
    told = dict.fromkeys(quantizer.excluded, "it was excluded") | kept
    told = kept_float(scheme, found.model, found.change.refusals, told)
    return Quantized(
        model=found.model,
        scheme=scheme,
        settings=tuned,
        before_bytes=comparison.sizes[FLOAT],
        after_bytes=comparison.sizes[QUANTIZED],
        measured=measured,
        quality=found.quality,
        floor=floor,
        kept_float=told,
        calibration_samples=quantizer.calibrated,
        peak_rss_bytes=peak,
        executed=executed,
        macs=all_macs(quantizer.ready),
        random_samples=samples.random,
        recipe=str(found.recipe),
        sensitivity=ranking,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Found:
    """A quantised model, what made it, and the quality of its saved file."""

    recipe: Recipe
    model: Model
    change: Change
    quality: Quality


def _holding(
    floor: float, recipe: Recipe, ranking: Ranking, quantizer: Quantizer, comparison: Comparison
) -> tuple[_Found, Sequence[str]] | None:
    """The model with the fewest layers in float that holds ``floor``, and these layers."""
    best: _Found | None = None

    def holds(names: Sequence[str]) -> bool:
        nonlocal best
        tried = excluding(recipe, names)
        model, change = quantizer.search.build(tried)
        quality = comparison.quality(model)
        if quality.low < floor:
            return False
        best = _Found(tried, model, change, quality)  # of fewer layers than any before it
        return True

    names = fewest(ranking, holds)
    return None if names is None or best is None else (best, names)


def _why(names: Sequence[str], ranking: Ranking) -> dict[str, str]:
    alone = {layer.node: layer.alone for layer in ranking.layers}
    told = {}
    for name in names:
        damage = alone[name]
        share = "not measured" if damage is None else f"{damage:.2g} of the outputs' variance"
        told[name] = f"for the floor; alone in int8 its error is {share}"
    return told
