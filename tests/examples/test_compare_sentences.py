"""The classic comparison: equal work first, wrong answers never timed, factors that multiply."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.runner import Artifact, InProcess, OriginRef
from onnxpress.settings import Settings
from onnxpress.source import OpenOptions, open_source
from onnxpress.verbs.measured import Latency, Measured, Ratio, Row
from zoo import examples

MODULES = ("compare", "multilingual", "naive", "sides", "ways")
SMALL = {
    "vocab_size": 8100,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules of each other, as they are when one of them is run."""
    folder = str(examples.FOLDER / "sentence_embedding")
    sys.path.insert(0, folder)
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(folder)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def model(example: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, much smaller."""
    folder: Path = tmp_path_factory.mktemp("models") / "small"
    example["multilingual"].save(folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def converted(model: Path) -> Path:
    return api.convert(f"sentence-transformers:{model}").model.save(model.parent / "small.onnx")


def three(example: dict[str, ModuleType], model: Path, file: Path) -> dict[str, InProcess]:
    """The reference, PyTorch and ONNX Runtime, all in this process."""
    ways, compare, ref = example["ways"], example["compare"], f"sentence-transformers:{model}"
    with open_source(ref, OpenOptions()) as origin:
        how, eager = origin.processing, OriginRef(ref, OpenOptions(), 1, origin.fingerprint())
    onnx = Artifact(file, Settings("onnxruntime", threads=1))
    targets = {compare.REFERENCE: str(model), compare.BASELINE: eager, "ONNX Runtime": onnx}
    return {
        name: InProcess(ways.Way(name, target, how, compare.EQUAL, threads=1).open())
        for name, target in targets.items()
    }


def test_equal_work_gives_equal_vectors(
    example: dict[str, ModuleType], model: Path, converted: Path
) -> None:
    """On texts of many lengths, those of a second window among them."""
    compare, ways = example["compare"], example["ways"]
    rng = np.random.default_rng(0)
    words = example["multilingual"].VIETNAMESE.split()
    texts = [*compare.TUTORIAL, *(" ".join(rng.choice(words, n)) for n in rng.integers(1, 60, 50))]
    found = {
        name: runner.run(ways.feeds_of(texts))[ways.VECTORS]
        for name, runner in three(example, model, converted).items()
    }
    wanted = found[compare.REFERENCE]
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, rtol=1e-5)
    for name, vectors in found.items():
        np.testing.assert_allclose(vectors, wanted, atol=1e-4, err_msg=name)


def test_another_models_vectors_are_refused(
    example: dict[str, ModuleType], model: Path, converted: Path, tmp_path: Path
) -> None:
    compare, ways = example["compare"], example["ways"]
    import onnx

    wrong = onnx.load(converted)
    for weight in wrong.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if weight.name.endswith("word_embeddings.weight") or values.shape == (8100, 48):
            weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 7, 0), weight.name))
    onnx.save(wrong, tmp_path / "wrong.onnx")
    feeds = ways.feeds_of(compare.TUTORIAL)
    for file, expected in ((converted, []), (tmp_path / "wrong.onnx", ["ONNX Runtime"])):
        runners = three(example, model, file)
        close = compare.cosines(runners, feeds)
        every = [ways.Way(name, "", None, compare.EQUAL) for name in runners]
        assert list(compare.refused(every, close)) == expected


def test_no_number_is_refused(example: dict[str, ModuleType]) -> None:
    way = example["ways"].Way("odd", "", None, 0.99)
    assert example["compare"].refused([way], {"odd": math.nan})
    assert not example["compare"].refused([way], {"odd": 0.995})


def test_one_unfairness_goes_at_a_time(example: dict[str, ModuleType]) -> None:
    works = example["naive"].works()
    assert works[-1][1] == works[-1][2] == example["naive"].Work()
    assert len(works) == len(example["naive"].UNFAIR) + 1
    for (_, *before), (_, *after) in itertools.pairwise(works):
        pairs = zip(before, after, strict=True)
        changed = [asdict(a).items() ^ asdict(b).items() for a, b in pairs]
        assert sorted(map(len, changed)) == [0, 2]  # one field of one side


@pytest.mark.parametrize("seed", range(5))
def test_the_factors_multiply_to_the_naive_ratio(
    seed: int, example: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(seed)
    naive = example["naive"]
    lines = [
        naive.Line(what, tuple(rng.uniform(5, 300, 5)), tuple(rng.uniform(1, 9, 5)))
        for what, *_ in naive.works()
    ]
    factors = naive.factors(lines)
    assert len(factors) == len(lines) - 1
    product = math.prod(factors) * lines[-1].ratio.value
    assert product == pytest.approx(lines[0].ratio.value, rel=1e-9)
    naive.show(lines, 0.9)
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_a_long_line_of_a_table_has_80_columns(
    example: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a processor with a long name and every instruction set, and of wide intervals."""
    compare = example["compare"]
    cpu = replace(this_machine(), cpu="Xeon Platinum 8481C @ 2.70GHz", isa=("AVX512_BF16",) * 6)
    told = compare.described(cpu, 64)
    assert "64 threads" in told
    assert max(map(len, told.splitlines())) <= 80
    latency, wide = Latency.of([[123.4, 234.5]]), Ratio(10.256, 0.0123, 876.5)
    many: dict[str, Any] = {
        "requested": "float32",
        "executed": "float32",
        "batch": 3,
        "throughput_per_s": 1.0,
    }
    many |= {"load_ms": None, "peak_rss_bytes": None, "size_bytes": 470_000_000, "tie": True}
    row = Row(compare.REFERENCE, "torch", latency_ms=latency, speedup=wide, **many)
    result = Measured({}, compare.BASELINE, (row,), 100, None)
    compare.show("3 sentences", result, {row.name: 0.99999}, {})
    assert "10.3 (0.01–876.5) tie" in (out := capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_equal_work_is_checked_before_naive_times(
    example: dict[str, ModuleType], model: Path, tmp_path: Path
) -> None:
    naive = example["naive"]
    package = example["ways"].sentence_transformer(str(model))
    inner = package[0].auto_model
    file = api.convert((inner, package.tokenizer)).model.save(tmp_path / "right.onnx")
    assert 0 < naive.checked(str(model), file, 1) < 1
    with contextlib.suppress(AttributeError):
        inner.embeddings.word_embeddings.weight.data.mul_(1.5)
    file = api.convert((inner, package.tokenizer)).model.save(tmp_path / "wrong.onnx")
    with pytest.raises(InputError, match=r"wrong\.onnx differs from PyTorch"):
        naive.checked(str(model), file, 1)


def test_the_tokenizer_knows_vietnamese(model: Path, example: dict[str, ModuleType]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    rng = np.random.default_rng(0)
    letters = example["multilingual"].letters()
    made = ["".join(rng.choice(letters, 6)) for _ in range(20)]
    for text in (*example["compare"].TUTORIAL, *made):
        encoded = tokenizer.encode(text)
        assert "<unk>" not in encoded.tokens
        assert tokenizer.decode(encoded.ids) == text
    assert len(tokenizer.encode(example["compare"].TUTORIAL[0]).ids) < 12


def test_the_stand_in_has_the_originals_parameters(example: dict[str, ModuleType]) -> None:
    import torch
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        whole = BertModel(BertConfig(**example["multilingual"].SHAPE))
    assert sum(weight.numel() for weight in whole.parameters()) == 117_653_760


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_scripts(example: dict[str, ModuleType], model: Path, tmp_path: Path) -> None:
    """From a folder to tables of 80 columns, in small counts."""
    folder = examples.FOLDER / "sentence_embedding"
    said = examples.run(
        f"python sentences.py {tmp_path}/lines.txt 120 > {tmp_path}/out && "  # tells the long path
        f"python compare.py {model} --sentences {tmp_path}/lines.txt --rounds 5 --seconds 20 "
        f"--json {tmp_path}/compare.json && "
        f"python naive.py {model} --processes 2 --calls 5 --json {tmp_path}/naive.json",
        folder,
    )
    assert not [line for line in said.splitlines() if len(line) > 80 and "warning" not in line]
    compared = json.loads((tmp_path / "compare.json").read_text())
    assert [each["sentences"] for each in compared["results"]] == [3, 96]
    for each in compared["results"]:
        rows = {row["name"]: row for row in each["rows"]}
        assert {"PyTorch eager", "ONNX Runtime", "OpenVINO"} <= rows.keys() | compared["refused"]
        assert rows["PyTorch eager"]["speedup"]["value"] == 1
        assert all(len(times) >= 5 for times in each["round_ms"].values())
        assert min(each["cosines"][name] for name in rows) > 0.99
    naive = json.loads((tmp_path / "naive.json").read_text())
    assert len(naive["lines"]) == len(naive["factors"]) + 1 == 7
    assert naive["lines"][0]["torch_ms"] > naive["lines"][-1]["torch_ms"]
