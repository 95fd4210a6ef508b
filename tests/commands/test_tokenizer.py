"""``--tokenizer``: an ONNX file on lines of text, in every command that reads samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx.parser
import pytest

import onnxpress
from conftest import Shell
from onnxpress import api
from onnxpress.signature import Feeds
from onnxpress.tokenizer_files import read_tokenizer
from zoo.bundles import write_model
from zoo.texts import bert_config, saved, sentences, tokenizer, transformers

pytestmark = pytest.mark.usefixtures("one_engine")

COUNT = 40


class Texts(NamedTuple):
    """An ONNX file that embeds texts, its tokenizer's folder, lines of text, and what they give."""

    model: Path
    tokenizer: Path
    lines: Path
    embedded: np.ndarray


GRAPH = """
<ir_version: 10, opset_import: ["": 21]>
texts (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask)
    => (float[batch, 16] sentence_embedding)
{
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    words = Gather (table, input_ids)
    hidden = MatMul (words, weight)
    bent = Tanh (hidden)
    mask = Cast <to = 1> (attention_mask)
    wide = Unsqueeze (mask, two)
    shown = Mul (bent, wide)
    sum = ReduceSum <keepdims = 0> (shown, one)
    count = ReduceSum <keepdims = 1> (mask, one)
    sentence_embedding = Div (sum, count)
}
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """It embeds the mean of what a layer makes of each token."""
    folder = tmp_path_factory.mktemp("texts")
    library, lines = tokenizer(), sentences(COUNT, seed=5)
    library.save_pretrained(folder / "tokenizer")
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rng = np.random.default_rng(3)
    table = rng.standard_normal((len(library), 16)).astype(np.float32)
    weight = rng.standard_normal((16, 16)).astype(np.float32)
    model = onnx.parser.parse_model(GRAPH)
    for name, array in (("table", table), ("weight", weight)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "m.onnx")
    ids = [library(line)["input_ids"] for line in lines]
    embedded = np.stack([np.tanh(table[row] @ weight).mean(axis=0) for row in ids])
    return Texts(folder / "m.onnx", folder / "tokenizer", folder / "lines.txt", embedded)


@pytest.fixture
def one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is worth trying but float32: for a test that is not about forms."""
    from onnxpress.engines.onnxruntime import OnnxRuntime

    forms = OnnxRuntime.forms
    monkeypatch.setattr(OnnxRuntime, "forms", lambda *given: forms(*given)[:1])


@pytest.fixture
def seen(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> list[Feeds]:
    """The feeds that a command makes, in the order in which it makes them."""
    from onnxpress.tokenizing import TextEncoder, Tokens

    made: list[Feeds] = []
    stack = TextEncoder.stack

    def kept(self: TextEncoder, given: list[Tokens], length: int | None = None) -> Feeds:
        made.append(stack(self, given, length))
        return made[-1]

    monkeypatch.setattr(TextEncoder, "stack", kept)
    return made


def assert_all_lines(seen: list[Feeds], texts: Texts) -> None:
    """Every line was read once at least, as the tokens that the folder makes of it."""
    found = {tuple(row[row != 0]) for feeds in seen for row in feeds["input_ids"]}
    how = read_tokenizer(texts.tokenizer).open()
    lines = texts.lines.read_text(encoding="utf-8").splitlines()
    assert found == {tuple(how.encode([line])["input_ids"][0]) for line in lines}


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "MODEL", "MODEL"],
        ["optimize", "MODEL", "-o", "o.onnx"],
        ["opset", "MODEL", "--to", "20", "-o", "o.onnx"],
        ["export", "MODEL", "--to", "ort", "-o", "m.ort"],
        ["check", "MODEL"],
    ],
    ids=lambda words: words[0],
)
def test_it_runs_on_the_lines(
    words: list[str], texts: Texts, seen: list[Feeds], shell: Shell
) -> None:
    named = [str(texts.model) if word == "MODEL" else word for word in words]
    code, out, err = shell(
        *named, "--samples", texts.lines, "--tokenizer", texts.tokenizer, "--json"
    )
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data.get("verified", data)["ok"]
    assert_all_lines(seen, texts)


def test_texts_of_many_lengths_are_told_together(
    texts: Texts, shell: Shell, tmp_path: Path
) -> None:
    lines = ["the " * count for count in range(1, 11) for _ in range(4)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    words = ["verify", texts.model, texts.model, "--samples", "lines.txt",
             "--tokenizer", texts.tokenizer]  # fmt: skip
    code, out, err = shell(*words)
    assert (code, err) == (0, "")
    assert out.startswith(
        "  \u2713 input_ids, attention_mask [4, 3\u201312] (10 batches): largest difference 0\n"
        "the same answers"
    )
    code, out, _ = shell(*words, "-v")
    assert (code, out.count("largest difference 0")) == (0, 10)


def test_bench(texts: Texts, seen: list[Feeds], shell: Shell, tmp_path: Path) -> None:
    onnx.save(onnx.load(texts.model), tmp_path / "copy.onnx")
    code, out, err = shell(
        "bench", texts.model, "copy.onnx", "--samples", texts.lines,
        "--tokenizer", texts.tokenizer, "--rounds", "5", "--json",
    )  # fmt: skip
    assert code == 0, err
    quality = json.loads(out)["rows"][1]["quality"]
    assert quality["n"] == COUNT
    assert "Spearman" in quality["metric"]
    assert quality["value"] == pytest.approx(1)
    assert_all_lines(seen, texts)


@pytest.mark.usefixtures("in_process")
def test_quantize(texts: Texts, seen: list[Feeds], shell: Shell, tmp_path: Path) -> None:
    code, out, err = shell(
        "quantize", texts.model, "--scheme", "dynamic", "--samples", texts.lines,
        "--tokenizer", texts.tokenizer, "-o", "q.onnx", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["quality"]["n"] == COUNT
    assert_all_lines(seen, texts)


@pytest.mark.usefixtures("one_form")
def test_a_pressed_bundle_has_the_tokenizer(texts: Texts, shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell(
        "press", texts.model, "--samples", texts.lines, "--tokenizer", texts.tokenizer,
        "--rounds", "5", "--keep-float", "-o", "bundle", "-q",
    )  # fmt: skip
    assert code in {0, 3}, err
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert manifest["processing"]["text"]["inputs"] == [
        spec.name for spec in onnxpress.load(texts.model).signature.inputs
    ]
    code, out, err = shell("run", "bundle", "--input-file", texts.lines, "--json")
    assert (code, err) == (0, "")
    found = np.array(json.loads(out)["outputs"], np.float32)
    np.testing.assert_allclose(found, texts.embedded, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--samples", "LINES", "--tokenizer", "none"], "--tokenizer none is no folder here"),
        (["--samples", "LINES", "--tokenizer", "."], "--tokenizer . has no tokenizer.json"),
        (["--tokenizer", "FOLDER"], "without --samples; expected texts; give --samples"),
        (
            ["--samples", "LINES", "--tokenizer", "FOLDER", "--preprocess", "size=8"],
            "--preprocess and --tokenizer; expected one of them",
        ),
        (
            ["--samples", "random:4", "--tokenizer", "FOLDER"],
            "--tokenizer with samples that are tensors; expected texts",
        ),
        (
            ["--samples", "LINES"],
            "but nothing says how texts become tokens; expected a tokenizer; give --tokenizer",
        ),
    ],
)
def test_refusals(words: list[str], told: str, texts: Texts, shell: Shell) -> None:
    places = {"LINES": str(texts.lines), "FOLDER": str(texts.tokenizer)}
    given = [places.get(word, word) for word in words]
    code, out, err = shell("verify", texts.model, texts.model, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


@pytest.mark.parametrize("command", ["optimize", "press", "bench"])
def test_a_model_that_takes_no_tokens(
    command: str, texts: Texts, shell: Shell, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.onnx")
    code, out, err = shell(
        command, "m.onnx", "--samples", texts.lines, "--tokenizer", texts.tokenizer
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "error: --tokenizer for a model that takes x" in err
    assert "expected a model that takes input_ids, attention_mask, token_type_ids" in err


def test_what_a_source_knows_refuses_no_tensors(texts: Texts, tmp_path: Path) -> None:
    """Only where the flag is given is it an error that nothing uses the tokenizer."""
    saved(transformers().BertModel(bert_config()), tmp_path / "bert", tokenizer())
    feeds = read_tokenizer(texts.tokenizer).open().encode(["the cat", "the dog"])
    np.savez(tmp_path / "f.npz", **feeds)
    source, samples = f"transformers:{tmp_path / 'bert'}", str(tmp_path / "f.npz")
    assert api.verify(source, source, samples=samples).ok


def test_opset_alone_compares_nothing(texts: Texts, shell: Shell) -> None:
    code, _, err = shell("opset", texts.model, "--tokenizer", texts.tokenizer)
    assert (code, err.count("\n")) == (2, 1)
    assert "--samples or --tokenizer without --to" in err


def test_a_sweep_over_lengths(texts: Texts, shell: Shell) -> None:
    """Each point has texts of exactly so many tokens; what no text can be is refused at once."""
    words = ["bench", texts.model, "--samples", texts.lines, "--tokenizer", texts.tokenizer]
    code, out, err = shell(*words, "--length", "4,24", "--batch", "1,64", "--rounds", "5", "--json")
    assert code == 0
    result = json.loads(out)
    sizes = [(row["batch"], row["length"]) for row in result["rows"]]
    assert sizes == [(1, 4), (1, 24), (64, 4), (64, 24)]
    assert f"a batch of 64 repeats the {COUNT} samples that there are" in result["warnings"]
    assert result["crossovers"] == []
    assert result["verdict"] == f"nothing was compared with {texts.model} on onnxruntime"
    for length, said in (
        ("25", "--length 25; expected at most 24 tokens, as the model takes"),
        ("2", "--length 2; expected at least 3: 2 tokens begin and end a text"),
    ):
        code, out, err = shell(*words, "--length", f"8,{length}")
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {said}")
    code, _, err = shell("bench", texts.model, "--samples", "random:4", "--length", "8")
    assert code == 2
    assert "a tokenizer" in err or "--length 8 for samples that are no texts" in err


def test_from_texts_to_vectors(texts: Texts, shell: Shell, tmp_path: Path) -> None:
    """Tokenizing is timed on both sides, which is told; a length in tokens means nothing then."""
    onnx.save(onnx.load(texts.model), tmp_path / "copy.onnx")
    words = ["bench", texts.model, "copy.onnx", "--samples", texts.lines, "--tokenizer",
             texts.tokenizer, "--rounds", "5", "--end-to-end"]  # fmt: skip
    code, out, _ = shell(*words, "--report", "b.md", "-o", "b.json")
    assert code == 0
    assert "batch 1, 5 rounds, from records to predictions" in out
    assert json.loads((tmp_path / "b.json").read_text())["end_to_end"] is True
    assert (
        "from records to predictions, with pre- and post-processing"
        in (tmp_path / "b.md").read_text()
    )
    code, out, err = shell(*words, "--length", "8")
    assert (code, out) == (2, "")
    assert err.startswith("error: --length with --end-to-end; expected texts as they are")
