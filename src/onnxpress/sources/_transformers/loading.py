"""From a folder or a name on the hub to a live model and its processor."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxpress.errors import InputError, OnnxpressError, SourceError
from onnxpress.source import OpenOptions
from onnxpress.sources._transformers.library import library, quiet

HEADS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
    "ForObjectDetection": "AutoModelForObjectDetection",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
}
"""The end of an architecture's name → the class that loads such architectures."""

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FILES = (".onnx", ".py", ".pt", ".pth", ".bin", ".json", ".safetensors", ".h5")
EXPECTED = "a folder that save_pretrained wrote, or a name on the Hugging Face hub"
TRUST = (
    "a model of the library",
    "give --trust if you trust whoever wrote it: its code runs on this machine",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json",
                   "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model and, where there is one, its tokenizer or image processor."""

    model: Any
    processor: Any | None


def load(where: str, options: OpenOptions) -> Loaded:
    """Raises ``InputError`` or ``SourceError``; the model's own code needs ``options.trust``."""
    local = folder_or_name(where)
    if local and not (Path(where) / "config.json").is_file():
        raise InputError(f"{where} has no config.json", EXPECTED)
    if local:
        refuse_code(Path(where), options)
    transformers = library()
    how: dict[str, Any] = {"trust_remote_code": options.trust, "local_files_only": local}
    import torch

    with loading(where, options):
        config = transformers.AutoConfig.from_pretrained(where, **how)
        cls = _class_of(transformers, config)
        model = cls.from_pretrained(where, config=config, dtype=torch.float32, **how)
        names = {path.name for path in Path(where).iterdir()} if local else None
        processor: Any | None = None
        if _takes_images(model):
            if names is None or "preprocessor_config.json" in names:
                processor = transformers.AutoImageProcessor.from_pretrained(where, **how)
        elif names is None or names & set(TOKENIZER_FILES):
            processor = transformers.AutoTokenizer.from_pretrained(where, **how)
    return Loaded(model, processor)


def folder_or_name(where: str) -> bool:
    """Whether ``where`` is a folder; otherwise it may be a name. Raises ``InputError``."""
    if where and Path(where).is_dir():
        return True
    if where and Path(where).exists():
        raise InputError(f"{where} is a file", EXPECTED)
    if not HUB_NAME.fullmatch(where) or where.endswith(FILES):
        raise InputError(f"{where or 'the reference'} does not exist", EXPECTED)
    return False


def refuse_code(folder: Path, options: OpenOptions) -> None:
    """Raise ``InputError`` where the folder brings its own code and that is not trusted."""
    if options.trust:
        return
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / 'config.json'} cannot be read ({str(error).splitlines()[0]})", "JSON"
        ) from error
    known = library().CONFIG_MAPPING
    if (
        isinstance(config, dict)
        and config.get("auto_map")
        and config.get("model_type") not in known
    ):
        raise InputError(
            f"{folder} brings its own code ({', '.join(sorted(config['auto_map']))})",
            *TRUST,
        )


@contextlib.contextmanager
def loading(where: str, options: OpenOptions) -> Iterator[None]:
    """What the library raises while it loads becomes one line."""
    try:
        with quiet():
            yield
    except OnnxpressError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error) and not options.trust:
            raise InputError(f"{where} brings its own code", *TRUST) from error
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(f"{where} cannot be loaded ({text})", EXPECTED) from error


def _class_of(transformers: Any, config: Any) -> Any:
    """The library's class of the architecture; for others the one that loads such heads."""
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is not None:
            return found
        for end, auto in HEADS.items():
            if name.endswith(end):
                return getattr(transformers, auto)
    return transformers.AutoModel


def _takes_images(model: Any) -> bool:
    return bool(model.main_input_name == "pixel_values")
