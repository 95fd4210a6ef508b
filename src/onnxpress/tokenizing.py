"""How a text becomes the integers of a model: a tokenizer's file and how to cut and pad."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxpress.errors import BundleError, InputError, MissingExtra, SamplesError, first_line
from onnxpress.signature import Feeds, Signature

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIDES = ("left", "right")
UNLIMITED = 1_000_000
"""The library writes 1e30 where a tokenizer knows no limit."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class TextProcessing:
    """Token ids, mask of padding and segments of a text, cut to ``max_length`` tokens.

    ``file`` is a ``tokenizer.json`` of the library ``tokenizers`` with the SHA-256 ``sha256``;
    where it lies is no part of what the processing is. ``prefix`` is put in front of each text.
    A batch is padded to its longest text on ``padding_side`` with ``pad_token``, whose id is
    ``pad_id``, and cut on ``truncation_side``. ``inputs`` are the tensors that the model takes.
    """

    file: Path = field(compare=False, repr=False)
    sha256: str
    max_length: int
    pad_token: str
    pad_id: int
    pad_type_id: int = 0
    padding_side: str = "right"
    truncation_side: str = "right"
    prefix: str = ""
    inputs: tuple[str, ...] = INPUTS

    def __post_init__(self) -> None:
        for name in ("padding_side", "truncation_side"):
            if getattr(self, name) not in SIDES:
                raise InputError(f"the text processing's {name} is {getattr(self, name)}", "a side")
        unknown = [name for name in self.inputs if name not in INPUTS]
        if unknown or not self.inputs or self.max_length < 1:
            found = (
                f"the text processing makes {', '.join(self.inputs)} of {self.max_length} tokens"
            )
            raise InputError(found, f"some of {', '.join(INPUTS)} of at least 1 token")

    @classmethod
    def of(cls, tokenizer: str, **how: object) -> TextProcessing:
        """From the text of a ``tokenizer.json``, kept in a file until this process ends."""
        content = tokenizer.encode()
        sha256 = hashlib.sha256(content).hexdigest()
        file = Path(_folder().name) / f"{sha256[:16]}.json"
        file.write_bytes(content)
        return cls(file=file, sha256=sha256, **how)  # type: ignore[arg-type]  # checked above

    def fitting(self, kind: str, signature: Signature) -> TextProcessing:
        """For samples of ``kind`` and the inputs of a model, where ``--tokenizer`` was given.

        Raises ``InputError`` where one of them has no use for it.
        """
        if kind != "texts":
            raise InputError(
                f"--tokenizer with samples that are {kind}",
                "texts: a .txt with one a line, or a .jsonl with 'text' in each",
                "leave out --tokenizer",
            )
        names = tuple(spec.name for spec in signature.inputs if spec.name in INPUTS)
        if "input_ids" not in names:
            raise InputError(
                f"--tokenizer for a model that takes {', '.join(map(str, signature.inputs))}",
                f"a model that takes {', '.join(INPUTS)}, or the first of them",
                "leave out --tokenizer",
            )
        return replace(self, inputs=names)

    def at(self, file: Path) -> TextProcessing:
        return replace(self, file=file)

    def open(self) -> TextEncoder:
        """Raises ``BundleError`` where the file is missing or changed, ``MissingExtra``."""
        try:
            content = self.file.read_bytes()
        except OSError:
            raise BundleError(f"{self.file} is missing", "the tokenizer", "press again") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise BundleError(
                f"{self.file} was changed or cut", f"SHA-256 {self.sha256[:12]}…", "press again"
            )
        return TextEncoder(tokenizer_of(content.decode(), self.file), self)

    def to_dict(self) -> dict[str, object]:
        """JSON-able, with the file's name alone."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, "file": self.file.name, "inputs": list(self.inputs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> TextProcessing:
        """What ``to_dict`` gave. Raises ``InputError`` for unknown keys, else ``TypeError``."""
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            found = f"the text processing has the keys {', '.join(sorted(unknown))}"
            raise InputError(found, "keys of this version", "upgrade onnxpress")
        inputs = data["inputs"]
        numbers = [data[name] for name in ("max_length", "pad_id", "pad_type_id")]
        names = ("file", "sha256", "pad_token", "padding_side", "truncation_side", "prefix")
        texts = [data[name] for name in names]
        if not (
            isinstance(inputs, list | tuple)
            and all(type(number) is int for number in numbers)
            and all(isinstance(text, str) for text in texts)
        ):
            raise TypeError(f"the text processing is {dict(data)!r}")
        given = {**data, "file": Path(str(data["file"])), "inputs": tuple(map(str, inputs))}
        return cls(**given)  # type: ignore[arg-type]  # checked above


def tokenizer_of(content: str, name: object) -> Tokenizer:
    """From the text of a ``tokenizer.json`` that errors call ``name``.

    Raises ``MissingExtra``, or ``InputError`` where the library ``tokenizers`` cannot read it.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra.of("tokenizers", "text", "turns texts into tokens") from None
    try:
        return Tokenizer.from_str(content)
    except Exception as error:
        found = f"{name} cannot be read ({first_line(error)[:200]})"
        raise InputError(found, "a tokenizer.json of the library tokenizers") from error


@dataclass(frozen=True)
class Word:
    """A word of a text: characters ``start`` to ``end``, and the column of its first token."""

    token: int
    start: int
    end: int


@dataclass(frozen=True)
class Tokens:
    """Of one text: int64 (tokens,) each."""

    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray


class TextEncoder:
    """An opened ``TextProcessing``. ``encode`` may be called from any thread."""

    def __init__(self, tokenizer: Tokenizer, processing: TextProcessing) -> None:
        self._tokenizer, self.processing = tokenizer, processing
        tokenizer.enable_truncation(
            processing.max_length, strategy="longest_first", direction=processing.truncation_side
        )
        tokenizer.no_padding()  # done here, in NumPy: a tokenizer's own padding is its state

    def encode(self, texts: Sequence[str], length: int | None = None) -> Feeds:
        """int64 (texts, longest) each, or (texts, ``length``): see ``stack``."""
        return self.stack(self.tokens(texts), length)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Of each text, cut to ``max_length``."""
        encodings = self._tokenizer.encode_batch([self.processing.prefix + text for text in texts])
        return [
            Tokens(*(np.array(part, np.int64) for part in (e.ids, e.attention_mask, e.type_ids)))
            for e in encodings
        ]

    def sized(self, texts: Sequence[str], length: int) -> list[Tokens | None]:
        """Of each text, exactly ``length`` tokens: what is between special ones, repeated or cut.

        None for a text without any token of its own. Raises ``InputError`` where ``length``
        is more than ``max_length``, or leaves no room beside the special tokens.
        """
        how, made = self.processing, list[Tokens | None]()
        if length > how.max_length:
            raise InputError(
                f"--length {length}", f"at most {how.max_length} tokens, as the model takes"
            )
        for e in self._tokenizer.encode_batch([how.prefix + text for text in texts]):
            own = [at for at, special in enumerate(e.special_tokens_mask) if not special]
            if not own:
                made.append(None)
                continue
            first, behind = own[0], len(e.ids) - own[-1] - 1
            room = length - first - behind
            if room < 1:
                raise InputError(
                    f"--length {length}",
                    f"at least {first + behind + 1}: {first + behind} tokens begin and end a text",
                )
            middle = np.resize(np.arange(first, len(e.ids) - behind), room)
            order = np.concatenate(
                [np.arange(first), middle, np.arange(len(e.ids) - behind, len(e.ids))]
            )
            parts = (np.array(part, np.int64) for part in (e.ids, e.attention_mask, e.type_ids))
            made.append(Tokens(*(part[order] for part in parts)))
        return made

    def stack(self, texts: Sequence[Tokens], length: int | None = None) -> Feeds:
        """int64 (texts, longest) each, or (texts, ``length``), as long as the model takes.

        Raises ``SamplesError`` where ``length`` cannot hold a text's tokens.
        """
        how = self.processing
        longest = max((len(text.ids) for text in texts), default=0)
        if length is not None and longest > length:
            raise SamplesError(
                f"a text has {longest} tokens", f"at most {length}, as the model takes"
            )
        shape = (len(texts), max(1, longest) if length is None else length)
        filler = {"input_ids": how.pad_id, "attention_mask": 0, "token_type_ids": how.pad_type_id}
        feeds = {name: np.full(shape, filler[name], np.int64) for name in how.inputs}
        for row, text in enumerate(texts):
            count = len(text.ids)
            columns = slice(shape[1] - count, None) if how.padding_side == "left" else slice(count)
            for name, value in zip(INPUTS, (text.ids, text.mask, text.types), strict=True):
                if name in feeds:
                    feeds[name][row, columns] = value
        return feeds

    def words(self, texts: Sequence[str], length: int) -> list[list[Word]]:
        """The words of each text, in tokens of rows that ``encode`` padded to ``length``.

        Special tokens are none, and what was cut off is left out.
        """
        how, found = self.processing, []
        for encoding in self._tokenizer.encode_batch([how.prefix + text for text in texts]):
            first = length - len(encoding.ids) if how.padding_side == "left" else 0
            words: dict[int, Word] = {}
            for token, word in enumerate(encoding.word_ids):
                start, end = (place - len(how.prefix) for place in encoding.offsets[token])
                if word is not None and end > 0:
                    known = words.get(word, Word(first + token, max(0, start), end))
                    words[word] = replace(known, end=max(known.end, end))
            found.append(list(words.values()))
        return found


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="onnxpress-tokenizers-")
