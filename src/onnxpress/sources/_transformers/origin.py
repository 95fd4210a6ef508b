"""A model of the transformers library as an origin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from onnxpress.errors import InputError, SourceError
from onnxpress.processing import Processing
from onnxpress.signature import Feeds, Signature
from onnxpress.source import Exported, ExportOptions, OpenOptions
from onnxpress.sources._torch.export import PLAIN_WAY, Way, export
from onnxpress.sources._torch.origin import TorchOrigin
from onnxpress.sources._transformers.head import Head, eager_attention
from onnxpress.sources._transformers.images import image_processing
from onnxpress.sources._transformers.inputs import ImageInputs, TextInputs
from onnxpress.sources._transformers.loading import Loaded, load
from onnxpress.sources._transformers.text import text_processing

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IMAGE_SIZE = (224, 224)


def open_origin(ref: object, options: OpenOptions) -> TransformersOrigin:
    """A folder, a name, a live model, or a pair of a live model and its processor."""
    refuse_flags(options)
    if isinstance(ref, tuple):
        loaded = Loaded(*ref)
    elif hasattr(ref, "config"):
        loaded = Loaded(ref, None)
    else:
        loaded = load(str(ref), options)
    return TransformersOrigin(loaded, options)


def refuse_flags(options: OpenOptions) -> None:
    """Raise ``InputError`` for flags that mean nothing for a model that knows itself."""
    if options.checkpoint is not None:
        raise InputError(
            f"--checkpoint {options.checkpoint}", "none: the model's folder holds its weights"
        )
    if options.inputs:
        raise InputError(
            f"--input {options.inputs[0]}", "none: the model's config tells its inputs"
        )


class LibraryOrigin(TorchOrigin):
    """A module of the library behind a ``Head``, with inputs that are known by name."""

    def __init__(
        self,
        head: Head,
        inner: Any,
        inputs: TextInputs | ImageInputs,
        options: OpenOptions,
        identity: str = "",
    ) -> None:
        """``inner`` is the library's model, whose attention can be chosen.

        ``identity`` is what decides the outputs beside config and weights.
        """
        self._inner, self._inputs = inner, inputs
        example = {name: torch.from_numpy(array) for name, array in inputs.example().items()}
        code = f"{type(inner).__name__} {inner.config.to_json_string()} {identity}"
        super().__init__(head, example, options, code)
        # A fixed batch is one row: the last one, whose padding tells exporters what a mask is for.
        row = {name: tensor[-1:] for name, tensor in self._example.tensors.items()}
        self._given = self._example.with_tensors(row)

    def probes(self, signature: Signature) -> Iterable[Feeds]:
        return self._inputs.probes(signature)

    def export(self, options: ExportOptions) -> Exported:
        """With the model's own attention, or plain matrix products where it cannot be exported."""
        ways: Mapping[str, Way] = PLAIN_WAY
        if self._inner.config._attn_implementation != "eager":
            ways = {**PLAIN_WAY, "eager attention": self._eager}
        return export(
            self._module,
            self._example,
            tuple(self._outputs),
            options,
            free=self._inputs.free,
            ways=ways,
            given=self._given,
        )

    def _eager(self) -> AbstractContextManager[None]:
        return eager_attention(self._inner)

    @functools.cached_property
    def processing(self) -> Processing | None:  # type: ignore[override]  # made when asked for
        """Raises ``InputError`` where the library prepares records as we cannot."""
        return self._processing()

    def _processing(self) -> Processing | None:
        """What the library says of tokens or pixels; None where it says nothing."""
        return None


class TransformersOrigin(LibraryOrigin):
    """A model in evaluation mode without cache; the outputs are the ModelOutput's tensors."""

    kind = "transformers"

    def __init__(self, loaded: Loaded, options: OpenOptions) -> None:
        model = loaded.model.eval()
        self._processor, self._labels = loaded.processor, _labels(model.config)
        parameters = inspect.signature(model.forward).parameters
        inputs = _inputs(model, loaded.processor, parameters)
        fixed = {"use_cache": False} if "use_cache" in parameters else {}
        names = tuple(inputs.example())

        def call(given: Mapping[str, torch.Tensor]) -> Mapping[str, object]:
            result: Mapping[str, object] = model(**given, **fixed)
            return result

        super().__init__(Head(model, names, call), model, inputs, options)

    def _processing(self) -> Processing | None:
        """Of the tokenizer or image processor, and the names of the classes."""
        if self._processor is None:
            return Processing(labels=self._labels) if self._labels else None
        if isinstance(self._inputs, ImageInputs):
            return Processing(image_processing(self._processor), self._labels)
        inputs = self._inputs
        text = text_processing(self._processor, inputs.names, None, inputs.longest)
        return Processing(None, self._labels, text)


def _inputs(model: Any, processor: Any | None, parameters: Any) -> TextInputs | ImageInputs:
    main = model.main_input_name
    if main == "pixel_values":
        return image_inputs(model, processor)
    if main != "input_ids" or main not in parameters:
        raise SourceError(f"{type(model).__name__} takes {main}", "a model of texts or of images")
    given = getattr(processor, "model_input_names", None)
    segments = int(getattr(model.config, "type_vocab_size", 0) or 0)
    usual = TEXT_INPUTS if segments > 1 else TEXT_INPUTS[:2]
    names = [name for name in TEXT_INPUTS if name in parameters and name in (given or usual)]
    return text_inputs(model, processor, tuple(names))


def text_inputs(model: Any, tokenizer: Any | None, names: tuple[str, ...]) -> TextInputs:
    """What ``model`` takes of ``names``: as many ids and places as its embeddings have."""
    config = model.config
    padding = getattr(tokenizer, "pad_token_id", None)
    if padding is None:
        padding = getattr(config, "pad_token_id", None)
    try:
        vocabulary = model.get_input_embeddings().num_embeddings
    except (NotImplementedError, AttributeError):  # code of the user's own need not tell
        vocabulary = int(getattr(config, "vocab_size", 2))
    padding = int(padding) if padding is not None and 0 <= int(padding) < vocabulary else 0
    return TextInputs(
        names,
        vocabulary=vocabulary,
        segments=max(1, int(getattr(config, "type_vocab_size", 1) or 1)),
        longest=longest(model),
        padding=padding,
        left=getattr(tokenizer, "padding_side", "right") == "left",
    )


def longest(model: Any) -> int | None:
    """How many tokens the model has learned positions for; None where it computes them."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and (
            name.endswith(("position_embeddings", "embed_positions", "wpe"))
        ):
            # RoBERTa and its kin count positions from behind that of padding.
            first = module.padding_idx + 1 if module.padding_idx is not None else 0
            offset = int(getattr(module, "offset", 0))
            return int(module.num_embeddings) - max(first, offset)
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def image_inputs(model: Any, processor: Any | None) -> ImageInputs:
    """The size that the processor makes, or the config's; free where the model takes others."""
    channels = int(getattr(model.config, "num_channels", 3) or 3)
    size = _size(getattr(processor, "crop_size", None) or getattr(processor, "size", None))
    size = size or _size(getattr(model.config, "image_size", None)) or IMAGE_SIZE
    inputs = ImageInputs(channels, size)
    free = ImageInputs(channels, size, any_size=True)
    for other in inputs.other_sizes():
        pixels = torch.from_numpy(inputs.feeds(1, other, seed=0)["pixel_values"])
        try:
            with torch.inference_mode():
                model(pixel_values=pixels)
        except Exception:  # noqa: BLE001  # whatever it raises, the answer is no
            return inputs
    return free


def _size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, list | tuple) and len(value) == 2:
        return (int(value[0]), int(value[1]))
    if isinstance(value, Mapping) or hasattr(value, "get"):
        height, width = value.get("height"), value.get("width")
        if height and width:
            return (int(height), int(width))
    return None


def _labels(config: Any) -> tuple[str, ...]:
    """The names of the classes, where somebody gave names."""
    names = getattr(config, "id2label", None) or {}
    listed = [str(names[index]) for index in sorted(names)]
    plain = all(name == f"LABEL_{index}" for index, name in enumerate(listed))
    return () if plain else tuple(listed)
