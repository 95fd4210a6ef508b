"""A pressed model on disk: what to run, how, on which machine, and the proof.

A bundle is a folder with ``bundle.json`` and model files that are named by their hash. The rename
of ``bundle.json`` is the commit: until then the old bundle is whole, afterwards the new one is,
and files that nothing names are removed. No code is in it and none is run on opening.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from onnxpress.custom_ops import NeededOps
from onnxpress.errors import BundleError
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from onnxpress.signature import Signature

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
HASHED = re.compile(r"[0-9a-f]{16}\.(onnx|onnx\.data|xml|bin|json)")
WORK = re.compile(r"\.[0-9a-f]{16}\.tmp")
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError)
"""What a manifest that we did not write may raise on the way to our types."""


@dataclass(frozen=True)
class BundledForm:
    """One file with the settings to run it, and what it requires.

    ``requires_isa`` holds groups of instruction sets: the CPU must have one of each.
    ``made_with`` names the engine version that it was measured on.
    """

    name: str
    file: str
    sha256: str
    settings: Settings
    requested: str
    requires_isa: tuple[tuple[str, ...], ...] = ()
    made_with: str = ""

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "file": self.file,
            "sha256": self.sha256,
            "engine": self.settings.engine,
            "settings": self.settings.to_dict(),
            "requested": self.requested,
            "requires": {
                "isa": [list(group) for group in self.requires_isa],
                "versions": {self.settings.engine: self.made_with},
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> BundledForm:
        requires = cast(
            "Mapping[str, Mapping[str, str] | Sequence[Sequence[str]]]", data["requires"]
        )
        settings = Settings.from_dict(cast("Mapping[str, object]", data["settings"]))
        versions = cast("Mapping[str, str]", requires.get("versions", {}))
        return cls(
            name=str(data["name"]),
            file=str(data["file"]),
            sha256=str(data["sha256"]),
            settings=settings,
            requested=str(data["requested"]),
            requires_isa=tuple(tuple(map(str, group)) for group in requires.get("isa", ())),
            made_with=str(versions.get(settings.engine, "")),
        )


@dataclass(frozen=True)
class Manifest:
    """All that ``bundle.json`` says. ``forms`` are in the order in which they are tried."""

    task: str
    signature: Signature
    processing: Processing | None
    forms: tuple[BundledForm, ...]
    objective: str
    chosen: str | None
    custom_ops: NeededOps | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)
    measurements: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        return {
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "signature": self.signature.to_dict(),
            "processing": self.processing.to_dict() if self.processing else None,
            "forms": [form.to_dict() for form in self.forms],
            "objective": self.objective,
            "chosen": self.chosen,
            **({"custom_ops": self.custom_ops.to_dict()} if self.custom_ops else {}),
            "provenance": dict(self.provenance),
            "measurements": dict(self.measurements),
        }


def read(folder: str | Path) -> Manifest:
    """The manifest of the bundle in ``folder``.

    Raises ``BundleError`` where it is no bundle, is damaged, or is of a newer format.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle", f"a folder with {MANIFEST}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{folder} has bundle format {version}",
                f"format {FORMAT_VERSION}",
                "upgrade onnxpress, or press again",
            )
        manifest = Manifest(
            task=str(data["task"]),
            signature=Signature.from_dict(data["signature"]),
            processing=Processing.from_dict(data["processing"]) if data["processing"] else None,
            forms=tuple(BundledForm.from_dict(form) for form in data["forms"]),
            objective=data["objective"],
            chosen=data["chosen"],
            custom_ops=NeededOps.from_dict(data["custom_ops"]) if "custom_ops" in data else None,
            provenance=data["provenance"],
            measurements=data["measurements"],
        )
    except DAMAGED as error:
        raise BundleError(
            f"{path} is damaged ({type(error).__name__}: {error})", "a manifest", "press again"
        ) from error
    for form in manifest.forms:
        if not HASHED.fullmatch(form.file):
            raise BundleError(
                f"{path} names the file {form.file!r}", "a hashed name inside the bundle"
            )
    text = manifest.processing.text if manifest.processing else None
    if text is None:
        return manifest
    if not HASHED.fullmatch(str(text.file)):
        raise BundleError(
            f"{path} names the file {str(text.file)!r}", "a hashed name inside the bundle"
        )
    return _with_tokenizer(manifest, folder / text.file)


def check_file(folder: Path, form: BundledForm) -> Path:
    """The path of ``form``'s file. Raises ``BundleError`` where it is missing or was changed."""
    path = folder / form.file
    if not path.is_file():
        raise BundleError(f"{path} is missing", "every file of the bundle", "press again")
    if _sha256(path) != form.sha256:
        raise BundleError(
            f"{path} was changed or cut", f"SHA-256 {form.sha256[:12]}…", "press again"
        )
    return path


def refuse_foreign(folder: Path) -> None:
    """Raise ``BundleError`` where ``folder`` exists, is not empty and is no bundle."""
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file", "a folder to write, or a bundle to replace")
    if folder.is_dir() and not _replaceable(folder):
        raise BundleError(
            f"{folder} exists and is not a bundle",
            "a new folder, an empty one, or a bundle to replace",
        )
    if not folder.resolve().parent.is_dir():
        raise BundleError(f"the folder of {folder} does not exist", "an existing folder")


def write(folder: Path, manifest: Manifest, files: Mapping[str, Path]) -> Manifest:
    """Write or replace the bundle in ``folder``; ``files`` maps a form's name to its model file.

    Returns the manifest with the hashed file names. Raises as ``refuse_foreign`` does.
    """
    refuse_foreign(folder)
    folder.mkdir(exist_ok=True)
    forms = []
    for form in manifest.forms:
        source = files[form.name]
        name = f"{_sha256(source)[:16]}.onnx"
        if any(source.parent.glob(f"{glob.escape(source.name)}*.data")):
            _copy_with_data(source, folder / name)
        else:
            _copy(source, folder / name)
        forms.append(replace(form, file=name, sha256=_sha256(folder / name)))
    manifest = replace(manifest, forms=tuple(forms))
    kept = {form.file for form in forms}
    text = manifest.processing.text if manifest.processing else None
    if text is not None:
        name = f"{text.sha256[:16]}.json"
        text.open()  # or a changed file would get into the bundle
        _copy(text.file, folder / name)
        manifest = _with_tokenizer(manifest, folder / name)
        kept.add(name)
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest.to_dict(), indent=1) + "\n", encoding="utf-8")
    _sync(temporary)
    Path(temporary).replace(folder / MANIFEST)
    _sweep(folder, kept)
    return manifest


def _with_tokenizer(manifest: Manifest, file: Path) -> Manifest:
    """``manifest`` with its tokenizer at ``file``. Whoever opens the tokenizer checks its hash."""
    assert manifest.processing is not None
    assert manifest.processing.text is not None
    text = manifest.processing.text.at(file)
    return replace(manifest, processing=replace(manifest.processing, text=text))


def _replaceable(folder: Path) -> bool:
    """A bundle, or nothing but what an interrupted ``write`` left."""
    if not (folder / MANIFEST).is_file():
        return all(_is_ours(path.name) for path in folder.iterdir())
    try:
        return "format_version" in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except DAMAGED:
        return True  # as the reader of a damaged bundle is told to do


def _copy(source: Path, target: Path) -> None:
    """Copy under a temporary name, then rename, so that a hashed name always holds its content."""
    if target.is_file() and _sha256(target) == _sha256(source):
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    _sync(temporary)
    Path(temporary).replace(target)


def _copy_with_data(source: Path, target: Path) -> None:
    """Copy a model and its external data, whose name in the graph becomes one of ours."""
    from onnxpress.model import load

    temporary = target.with_name(f".{target.stem}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    load(source).save(temporary / target.name)
    for path in temporary.iterdir():
        _copy(path, target.with_name(path.name))
    shutil.rmtree(temporary)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove our own files that the manifest does not name; never anything else."""
    for path in folder.iterdir():
        if not _is_ours(path.name) or {path.name, path.name.removesuffix(".data")} & keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MANIFEST:
            path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    bare = name.removeprefix(".").removesuffix(".tmp") if name.endswith(".tmp") else name
    return bare == MANIFEST or bool(HASHED.fullmatch(bare) or WORK.fullmatch(name))


def _sha256(path: Path) -> str:
    """Of the file, and of the external data beside it where there is some."""
    digest = hashlib.sha256()
    for part in (path, path.with_name(f"{path.name}.data")):
        if part == path or part.is_file():
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
