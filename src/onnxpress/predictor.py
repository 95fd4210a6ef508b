"""Predictor: an opened bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpress import bundle, registry
from onnxpress.batching import ROWS, TOKENS, predictions
from onnxpress.bundle import BundledForm, Manifest
from onnxpress.custom_ops import check_library
from onnxpress.engine import Engine, Session
from onnxpress.errors import BundleError, EngineError, InputError, SamplesError, writing
from onnxpress.machine import this_machine
from onnxpress.provider import provider_of
from onnxpress.readers import IMAGE_SUFFIXES, TABLES, frame_rows, is_frame
from onnxpress.samples import Raw, Record, Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.task import Bound, Task
from onnxpress.wishes import Wishes, check_kept, wishes_of

NONE = Wishes()


class Predictor:
    """Runs the first form of a bundle that fits this machine. A context manager; thread-safe.

    ``form`` names the form that runs; ``skipped`` says why each form before it does not.
    """

    def __init__(
        self,
        manifest: Manifest,
        form: BundledForm,
        session: Session,
        bound: Bound,
        skipped: Mapping[str, str],
        requests: int = 1,
    ) -> None:
        self.manifest, self.form, self.skipped = manifest, form, dict(skipped)
        self._session, self._bound, self._requests = session, bound, requests

    def predict(self, inputs: Sequence[Raw | Record]) -> Any:
        """One prediction per input, in order, as the task decodes them.

        Images: paths, encoded bytes or uint8 (H, W, C) arrays → ``{"class", "index", "score",
        "top"}``; segmentation → masks (h, w), image to image → uint8 (H, W, C). Tensors: mappings
        of input name → array without the batch axis, or bare arrays for a single input → output
        name → array. Texts to embed: strings → float32 (texts, dimensions). Rows of a table:
        mappings of column → value, or a DataFrame. Raises
        ``SamplesError`` naming a bad input.
        """
        rows = frame_rows(inputs) if is_frame(inputs) else inputs
        return self._bound.gather(list(self.stream(rows)))

    def stream(
        self, inputs: Iterable[Raw | Record], rows: int = ROWS, tokens: int = TOKENS
    ) -> Iterator[object]:
        """As ``predict``, lazily and in order, in memory that does not grow with the inputs.

        A batch holds at most ``rows`` inputs, of texts ``tokens`` tokens with their padding.
        Reads one batch ahead, of texts a window of up to 4096, which are sorted by length.
        """
        return predictions(
            self._bound,
            self._session,
            self.manifest.signature,
            map(_record, inputs),
            rows,
            tokens,
            self._requests,
        )

    @property
    def pictures(self) -> bool:
        """Whether predictions are images or masks, which ``write_pictures`` saves."""
        return self._bound.pictures

    def told(self, prediction: object) -> object:
        """A prediction as ``--json`` and people get it: shares of classes instead of a mask."""
        return self._bound.told(prediction)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Names of the nodes that run elsewhere than on the provider that was asked for."""
        return self._session.fallbacks()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """The model itself: tensors in, tensors out, nothing prepared or decoded."""
        return self._session.run(feeds)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open(
    folder: str | Path,
    threads: int | None = None,
    custom_ops: str | Path | None = None,
    *,
    engine: str | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
) -> Predictor:
    """Open the bundle in ``folder`` with the first form that fits this machine.

    ``threads``, ``provider`` and ``session`` go over the settings of the form, and so do those in
    the file ``settings`` that ``tune`` wrote; with an ``engine`` only its forms fit.
    ``custom_ops`` is the shared library that the bundle was pressed with, if with one. A form fits
    where its engine is installed, the CPU has its instruction sets and the engine loads the file.
    Raises ``BundleError`` with each form's reason where none does, or where the library is not
    the one that was pressed with.
    """
    wishes = wishes_of(engine, threads, provider, session, settings)
    return opened(folder, wishes, custom_ops)


def opened(
    folder: str | Path, wishes: Wishes = NONE, custom_ops: str | Path | None = None
) -> Predictor:
    """As ``open``, with wishes that were checked."""
    folder = Path(folder)
    manifest = bundle.read(folder)
    library = check_library(custom_ops)
    if manifest.custom_ops is not None:
        manifest.custom_ops.check(folder, library)
    task = registry.create(Task, "tasks", manifest.task)
    bound = task.bind(manifest.signature, manifest.processing)
    skipped: dict[str, str] = {}
    for form in manifest.forms:
        reason = _unfit(form, wishes)
        if not reason:
            path = bundle.check_file(folder, form)
            engine = registry.create(Engine, "engines", form.settings.engine)
            settings = wishes.over(form.settings).with_custom_ops(library)
            try:
                session = engine.open(path, settings)
            except EngineError as error:
                reason = str(error)
            else:
                return Predictor(manifest, form, session, bound, skipped, settings.requests)
        skipped[form.name] = reason
    told = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    raise BundleError(f"no form of {folder} runs on this machine ({told})", "one that does")


def foreign_options(settings: Settings) -> list[str]:
    """The options that no bundle may set: those that name files or libraries, and unknown ones."""
    engine = registry.create(Engine, "engines", settings.engine)
    found = sorted(set(settings.options) - engine.bundle_options)
    if settings.provider_options:
        known = provider_of(settings.provider).options or {}
        safe = {key for key, one in known.items() if one.kind != "path" and not one.writes}
        found += sorted(set(settings.provider_options) - safe)
    return found


def records_of(text: str, *, texts: bool = False) -> list[Record]:
    """What one command-line argument holds: an image file, or the rows of an ``.npz`` or table.

    With ``texts`` it is a text itself, or a ``.txt`` or ``.jsonl`` file of them.
    """
    path = Path(text)
    if path.suffix in (*TABLES, ".npz", ".txt", ".jsonl") and not path.is_file():
        raise SamplesError(f"{text} does not exist", "an image, a table, or an .npz of tensors")
    if texts and path.suffix not in (".txt", ".jsonl", ".npz"):
        return [Record(text, name=text)]
    if texts or path.suffix in (".npz", *TABLES) or path.is_dir():
        return list(Samples.open(text))
    if not path.is_file():
        raise SamplesError(f"{text} does not exist", "an image, a table, or an .npz of tensors")
    return [Record(path, name=path.name)]


def write_pictures(path: Path, names: Iterable[str], results: Iterable[object]) -> int:
    """Images or masks as files, each whole or not at all; how many.

    ``path`` is one image file, for one result, or a folder, which is made if need be: there each
    becomes a PNG with the stem of its name. Raises ``SamplesError`` where names or number clash.
    """
    from PIL import Image

    one = path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
    folder = path.parent if one else path
    if one and not folder.is_dir():
        raise SamplesError(f"the folder of {path} does not exist", "an existing folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written: set[Path] = set()
    for name, result in zip(names, results, strict=False):
        target = path if one else path / f"{Path(name).stem}.png"
        if target in written:
            fix = "give a folder as --output" if one else "give them different names"
            raise SamplesError(f"two results for {target}", "a file for each", fix)
        array = np.asarray(result)
        image = Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
        temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
        with writing(target):
            try:
                image.save(temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        written.add(target)
    return len(written)


def write_lines(path: Path, names: Iterable[str], results: Iterable[object]) -> int:
    """One JSON object per line with ``name`` and ``output``, whole or not at all; how many."""
    if not path.resolve().parent.is_dir():
        raise SamplesError(f"the folder of {path} does not exist", "an existing folder")
    if path.is_dir():
        raise SamplesError(f"{path} is a folder", "a file to write")
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with writing(path), temporary.open("w", encoding="utf-8") as file:
            for name, result in zip(names, results, strict=False):
                line = {"name": name, "output": plain(result)}
                file.write(json.dumps(line, allow_nan=False) + "\n")
                count += 1
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def plain(value: object) -> object:
    """A prediction for JSON: arrays as nested lists, infinities and NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        # ml_dtypes' own numbers, such as bfloat16, are no JSON.
        value = value.astype(np.float32) if value.dtype.kind == "V" else value
        odd = value.dtype.kind == "f" and not np.isfinite(value).all()
        return plain(value.tolist()) if odd else value.tolist()
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _unfit(form: BundledForm, wishes: Wishes) -> str:
    if wishes.engine not in (None, form.settings.engine):
        return f"it runs on {form.settings.engine}"
    if form.settings.engine not in registry.names("engines"):
        return f"unknown engine {form.settings.engine}"
    engine = registry.create(Engine, "engines", form.settings.engine)
    state = engine.available()
    if not state.ok:
        return f"{form.settings.engine} is not available; {state.reason}"
    try:
        check_kept(wishes.over(form.settings))
    except InputError as error:
        return str(error)
    foreign = foreign_options(form.settings)
    if foreign:
        return f"a bundle may not set the option {foreign[0]} of {form.settings.engine}"
    isa = set(this_machine().isa)
    lacking = [group for group in form.requires_isa if not isa & set(group)]
    return f"the CPU has none of {', '.join(lacking[0])}" if lacking else ""


def _record(value: Raw | Record) -> Record:
    return value if isinstance(value, Record) else Record(value)
