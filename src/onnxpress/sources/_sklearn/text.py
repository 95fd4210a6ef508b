r"""skl2onnx's writer of text vectorizers, given tokens that are the original's.

Python's ``\w`` knows every alphabet; that of RE2, which ONNX Runtime splits texts with, is ASCII.
skl2onnx leaves stop words between the words of an n-gram, and white space as it is between
characters, and takes the logarithm of something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper
from skl2onnx.operator_converters.text_vectoriser import convert_sklearn_text_vectorizer
from skl2onnx.operator_converters.tfidf_transformer import convert_sklearn_tfidf_transformer

from onnxpress.errors import SourceError
from onnxpress.sources._sklearn.container import Wrapped, put
from onnxpress.trees.graph import ML_DOMAIN, Graph

WORD = r"\p{L}\p{N}_"
SPACE = r"\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}"
CLASSES = {
    r"\w": f"[{WORD}]", r"\W": f"[^{WORD}]", r"\d": r"\p{Nd}", r"\D": r"\P{Nd}",
    r"\s": f"[{SPACE}]", r"\S": f"[^{SPACE}]",
}  # fmt: skip
"""Python's classes of characters, as RE2 has them outside of brackets."""

INSIDE = {r"\w": WORD, r"\d": r"\p{Nd}", r"\s": SPACE}
"""And inside."""

RUNS = f"[{SPACE}]{{2,}}"
"""What a vectorizer of characters makes one space of."""

REGEX_OPSET = 20
"""The first opset with RegexFullMatch."""

Mend = Callable[[Graph, str, str], None]
"""Adds what makes of one tensor of tokens [batch, …, count] another."""

PIECES = re.compile(r"\\(?:x[0-9a-fA-F]{2}|.)|\[\^?\]?|.", re.DOTALL)
WHOLE_WORDS = re.compile(
    r"\\b((?:\\[wd]|\[(?:\\[wd]|a-z|A-Z|0-9|\w(?!-))+\])(?:[+*]|\{\d+(?:,\d*)?\})?)+\\b"
)
EVERY_WORD = re.compile(r"(?:\\w)*\\w(?:\+|\{\d+,\})")


def convert_text(scope: Any, operator: Any, container: Any) -> None:
    """A converter of skl2onnx. Raises ``SourceError`` for what has no equal in ONNX."""
    vectorizer = operator.raw_operator
    name, analyzer = type(vectorizer).__name__, vectorizer.analyzer
    stop_words = sorted(vectorizer.get_stop_words() or ())
    several = vectorizer.ngram_range[1] > 1
    mend: Mend | None = None
    for code in ("preprocessor", "tokenizer", "analyzer"):
        if callable(getattr(vectorizer, code)):
            raise SourceError(
                f"{name} has a function as its {code}", "a token_pattern, which ONNX has"
            )
    for setting, known in (("analyzer", ("word", "char")), ("strip_accents", (None,))):
        value = getattr(vectorizer, setting)
        if value not in known:
            raise SourceError(
                f"{name} has {setting}={value!r}, which has no equal in ONNX",
                " or ".join(map(repr, known)),
            )
    if analyzer == "word":
        expression = tokens_of(vectorizer.token_pattern, several=several)
        if stop_words and several:
            mend = _without(stop_words)
    else:
        if container.target_opset < REGEX_OPSET:
            raise SourceError(
                f"{name} of characters in opset {container.target_opset}",
                f"opset {REGEX_OPSET} or later",
            )
        expression, mend = f"{RUNS}|(?s:.)", _single_spaces
    graph = Graph(scope.get_unique_operator_name("tokens") + "_")
    tokens = _TokenContainer(container, graph, expression, mend)
    convert_sklearn_text_vectorizer(scope, operator, tokens)


def convert_weights(scope: Any, operator: Any, container: Any) -> None:
    """A converter of skl2onnx, with ``sublinear_tf`` as 1 + log(x) in place of its log(1 + x)."""
    graph = Graph(scope.get_unique_operator_name("weights") + "_")
    counts = operator.inputs[0].full_name
    convert_sklearn_tfidf_transformer(scope, operator, _WeightContainer(container, graph, counts))


class _TokenContainer(Wrapped):
    """Another tokenizer than it is given, and all counts of n-grams."""

    def __init__(self, inner: Any, graph: Graph, expression: str, mend: Mend | None) -> None:
        super().__init__(inner)
        self._graph, self._expression, self._mend = graph, expression, mend

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **fields: Any) -> None:
        if op_type == "Tokenizer":
            fields["tokenexp"] = self._expression
            if self._mend is not None:
                every = f"{outputs}_all"
                self._mend(self._graph, every, outputs)
                put(self._graph, self.inner)
                outputs = every
        if op_type == "TfIdfVectorizer":  # n-grams of a length that the vocabulary has none of
            missing = fields["max_gram_length"] - len(fields["ngram_counts"])
            fields["ngram_counts"] += [len(fields["pool_strings"])] * missing
        self.inner.add_node(op_type, inputs, outputs, **fields)


class _WeightContainer(Wrapped):
    """The logarithm of ``counts``."""

    def __init__(self, inner: Any, graph: Graph, counts: str) -> None:
        super().__init__(inner)
        self._graph, self._counts = graph, counts

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **fields: Any) -> None:
        if op_type != "Log":
            self.inner.add_node(op_type, inputs, outputs, **fields)
            return
        graph, (output,) = self._graph, outputs if isinstance(outputs, list) else [outputs]
        zero, one = (graph.constant(np.array(x, np.float32)) for x in (0, 1))
        found = graph.add("Greater", self._counts, zero)
        logarithm = graph.add("Log", graph.add("Where", found, self._counts, one))
        graph.add("Where", found, graph.add("Add", logarithm, one), zero, output=output)
        put(graph, self.inner)


def tokens_of(pattern: str, *, several: bool) -> str:
    r"""RE2 for what ``re.findall`` finds by ``pattern``; ``several``: n-grams of several words.

    ``\b`` is known where it stands around whole words. Raises ``SourceError`` for the rest, and
    for what RE2, which takes the longest match, would find otherwise.
    """
    plain = pattern.removeprefix("(?u)")
    whole = WHOLE_WORDS.fullmatch(plain)
    if whole is not None:
        plain = plain[2:-2]
        # The words that the pattern leaves out are none of the vocabulary, and only between
        # those of an n-gram would it show that they are there.
        if EVERY_WORD.fullmatch(plain) is None:
            if several:
                raise _no_equal(pattern, "n-grams of it")
            plain = r"\w+"
    made, bracket = [], False
    for piece in PIECES.findall(plain):
        if bracket:
            if piece in (r"\W", r"\D", r"\S", r"\b"):
                raise _no_equal(pattern, f"'{piece}' in brackets")
            made.append(INSIDE.get(piece, piece))
            bracket = piece != "]"
            continue
        if piece in ("|", "(", "?", "^", "$", r"\b", r"\B", r"\A", r"\Z") or piece[1:].isdigit():
            raise _no_equal(pattern, f"'{piece}'")
        bracket = piece.startswith("[")
        made.append(CLASSES.get(piece, piece))
    return "".join(made)


def _no_equal(pattern: str, what: str) -> SourceError:
    return SourceError(
        f"token_pattern {pattern!r}: {what} has no equal in ONNX",
        r"words (\b\w\w+\b, \b[a-z]{3,}\b) or characters (\S+, [^,]+)",
    )


def _without(stop_words: list[str]) -> Mend:
    """Of tokens [batch, …, count] the stop words come last, where no n-gram reaches them."""

    def mend(graph: Graph, tokens: str, output: str) -> None:
        stops = graph.add(
            "LabelEncoder", tokens, domain=ML_DOMAIN, keys_strings=stop_words,
            values_int64s=[1] * len(stop_words), default_int64=0,
        )  # fmt: skip
        shape = graph.add("Shape", tokens)
        count = graph.add("Gather", shape, graph.constant(np.array([-1])), axis=0)
        zero, one = graph.constant(np.array(0)), graph.constant(np.array(1))
        places = graph.add("Range", zero, graph.add("Squeeze", count), one)
        keys = graph.add("Add", graph.add("Mul", stops, count), places)
        found = [f"{output}_keys", f"{output}_order"]
        graph.nodes.append(helper.make_node("TopK", [keys, count], found, largest=0))
        graph.add("GatherElements", tokens, found[1], output=output, axis=-1)

    return mend


def _single_spaces(graph: Graph, tokens: str, output: str) -> None:
    """Runs of white space become one space."""
    runs = graph.add("RegexFullMatch", tokens, pattern=RUNS)
    graph.add("Where", runs, graph.constant(np.array(" ", object)), tokens, output=output)
