"""Every form of samples, read lazily, split without overlap, refused in one line."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onnxpress.errors import MissingExtra, SamplesError
from onnxpress.samples import Record, Samples
from onnxpress.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("ids", "int64", ("n", "t")), TensorSpec("x", "float32", ("n", 3))), ()
)


def image(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
    return path


class TestForms:
    def test_a_folder_of_classes(self, tmp_path: Path) -> None:
        for name in ("cat", "ant", "bee"):
            for index in range(3):
                image(tmp_path / name / f"{index}.png")
        (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
        (tmp_path / "cat" / "notes.txt").write_text("no image")
        samples = Samples.open(tmp_path)
        assert samples.kind == "images"
        assert samples.classes == ("ant", "bee", "cat")
        assert samples.labels() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert [record.value for record in samples][-1] == tmp_path / "cat" / "2.png"

    def test_a_flat_folder(self, tmp_path: Path) -> None:
        image(tmp_path / "b.jpg")
        image(tmp_path / "a.PNG")
        samples = Samples.open(str(tmp_path))
        assert [record.name for record in samples] == ["a.PNG", "b.jpg"]
        assert not samples.has_labels

    def test_texts(self, tmp_path: Path) -> None:
        (tmp_path / "t.txt").write_text("one\n\ntwo\n", encoding="utf-8")
        assert [record.value for record in Samples.open(tmp_path / "t.txt")] == ["one", "two"]
        lines = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        samples = Samples.open(tmp_path / "t.jsonl")
        assert (samples.kind, samples.labels()) == ("texts", [1, 0])

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_tables(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"table{suffix}"
        if suffix == ".csv":
            path.write_text("a,b,y\n1,x,0\n2.5,z,1\n", encoding="utf-8")
        else:
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            table = pyarrow.table({"a": [1, 2.5], "b": ["x", "z"], "y": [0, 1]})
            parquet.write_table(table, path)
        samples = Samples.open(path, label="y")
        assert samples.kind == "rows"
        assert samples.labels() == [0, 1]
        assert [record.value for record in samples] == [{"a": 1, "b": "x"}, {"a": 2.5, "b": "z"}]
        with pytest.raises(
            SamplesError, match=r"no column 'z'; expected --label with one of a, b, y"
        ):
            Samples.open(path, label="z")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz(self, tmp_path: Path, save: object) -> None:
        x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
        save(tmp_path / "a.npz", x=x, ids=np.arange(6), labels=np.arange(6) % 2)  # type: ignore[operator]
        samples = Samples.open(tmp_path / "a.npz")
        assert samples.labels() == [0, 1, 0, 1, 0, 1]
        for index, record in enumerate(samples):
            assert isinstance(record.value, dict)
            np.testing.assert_array_equal(record.value["x"], x[index])
            assert record.value["ids"] == index

    def test_a_function_is_called_for_each_pass(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.py"
        path.write_text(
            "import numpy as np\ncalls = []\n"
            "def rows():\n    calls.append(1)\n"
            "    for i in range(5):\n        yield np.full((2,), i, np.float32), i % 2\n"
            "def fails():\n    yield 'a'\n    raise KeyError('gone')\n"
            "def first():\n    raise KeyError('gone')\n",
            encoding="utf-8",
        )
        samples = Samples.open(f"{path}:rows")
        assert [record.label for record in samples] == [0, 1, 0, 1, 0]
        assert [record.label for record in samples] == [0, 1, 0, 1, 0]
        with pytest.raises(SamplesError, match=r"mine.py:fails raised KeyError: 'gone' \(line 9\)"):
            Samples.open(f"{path}:fails")
        with pytest.raises(SamplesError, match="has no function 'nothing'"):
            Samples.open(f"{path}:nothing")

    def test_random(self) -> None:
        samples = Samples.open("random:4", signature=SIGNATURE, seed=3)
        assert samples.random
        values = [record.value for record in samples]
        again = [record.value for record in Samples.open("random:4", signature=SIGNATURE, seed=3)]
        for one, two in zip(values, again, strict=True):
            assert isinstance(one, dict)
            assert isinstance(two, dict)
            assert one["x"].shape == (3,)
            assert one["ids"].dtype == np.int64
            np.testing.assert_array_equal(one["x"], two["x"])

    def test_live_objects(self) -> None:
        array = np.zeros((3, 2), np.float32)
        assert len(Samples.open(array)) == 3
        assert Samples.open({"x": array, "labels": [0, 1, 0]}).labels() == [0, 1, 0]
        assert Samples.open([("a", 1), ("b", 0)]).labels() == [1, 0]
        record = Record(np.zeros(2), 5)
        assert Samples.open([record]).labels() == [5]
        numbers = Samples.open([Record("a", np.int64(5)), ("b", np.array([6]))]).labels()  # type: ignore[arg-type]
        assert (numbers, [type(label) for label in numbers]) == ([5, 6], [int, int])
        partly = Samples.open({"x": array, "labels": [0, None, "one"]})
        assert partly.labels() == [0, None, "one"]
        samples = Samples.open(["a", "b"])
        assert Samples.open(samples) is samples
        assert samples.fingerprint() != Samples.open(["a", "c"]).fingerprint()


class TestLaziness:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_an_npz_is_never_whole_in_memory(self, tmp_path: Path, save: object) -> None:
        save(tmp_path / "big.npz", x=np.zeros((400, 50_000), np.float32))  # type: ignore[operator]
        samples = Samples.open(tmp_path / "big.npz")
        tracemalloc.start()
        assert sum(1 for _ in samples) == 400
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000

    def test_records_are_made_when_they_are_asked_for(self) -> None:
        made: list[int] = []

        def stream() -> object:
            for index in range(10):
                made.append(index)
                yield Record(str(index), None)

        samples = Samples(stream, "texts", "counted", labels=[None] * 10)  # type: ignore[arg-type]
        next(iter(samples))
        assert made == [0]
        next(samples.batches(3))
        assert made == [0, 0, 1, 2]
        assert len(list(samples.limit(4))) == 4
        assert made == [0, 0, 1, 2, 0, 1, 2, 3]

    @pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
    def test_lines_are_never_whole_in_memory(self, tmp_path: Path, suffix: str) -> None:
        line = {".txt": "x" * 999, ".csv": "x" * 999, ".jsonl": f'{{"a": "{"x" * 990}"}}'}[suffix]
        path = tmp_path / f"big{suffix}"
        path.write_text(f"{line}\n" * 8_000)  # 8 MB
        tracemalloc.start()
        assert len(Samples.open(path)) == 8_000 - (suffix == ".csv")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000

    def test_a_folder_is_counted_without_opening_a_file(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "no_image.png").write_bytes(b"")
        assert Samples.open(tmp_path).labels() == [0, 1]


def test_batches() -> None:
    samples = Samples.open(list("abcde"))
    assert ["".join(str(r.value) for r in b) for b in samples.batches(2)] == ["ab", "cd", "e"]
    assert [len(batch) for batch in samples.limit(4).batches(4)] == [4]


class TestSplit:
    @given(
        st.lists(st.integers(0, 3), min_size=2, max_size=60),
        st.integers(1, 59),
        st.integers(0, 5),
    )
    def test_disjoint_complete_and_class_wise(
        self, labels: list[int], count: int, seed: int
    ) -> None:
        count = min(count, len(labels) - 1)
        samples = Samples.open([(str(i), label) for i, label in enumerate(labels)])
        one, two = samples.split(count, seed)
        first, second = ([r.value for r in part] for part in (one, two))
        assert (len(one), len(two)) == (count, len(labels) - count)
        assert not set(first) & set(second)
        assert sorted([*first, *second], key=str) == sorted((r.value for r in samples), key=str)
        for label in set(labels):
            share = labels.count(label) * count / len(labels)
            assert abs(one.labels().count(label) - share) < 1
        again, _ = samples.split(count, seed)
        assert [r.value for r in again] == first
        assert again.fingerprint() == one.fingerprint()
        assert one.fingerprint() != two.fingerprint()

    def test_limit_keeps_every_class(self) -> None:
        labels = [0] * 50 + [1] * 30 + [2] * 20
        samples = Samples.open([(str(i), label) for i, label in enumerate(labels)], limit=10)
        assert [samples.labels().count(label) for label in (0, 1, 2)] == [5, 3, 2]
        assert len(Samples.open(["a", "b", "c"], limit=2)) == 2
        one, two = samples.split(5, 0)
        assert len(one) + len(two) == 10

    def test_a_split_leaves_something(self) -> None:
        with pytest.raises(SamplesError, match="2 of 2 samples cannot calibrate"):
            Samples.open(["a", "b"]).split(2, 0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("absent", "does not exist; expected a folder of images"),
            ("empty", "holds no images"),
            ("mixed", "holds both images and folders"),
            ("file.xyz", "is of no known form"),
            ("ragged.npz", "x has 3, z has 2; expected arrays of one length"),
            ("objects.npz", "array 'x' holds objects"),
            ("labels.npz", "holds only labels"),
            ("broken.npz", "cannot be read"),
            ("empty.txt", "holds no samples"),
            ("broken.jsonl", "line 1 is no JSON text or object"),
            ("random:0", "random:N with N at least 1"),
        ],
    )
    def test_one_line(self, tmp_path: Path, name: str, expected: str) -> None:
        (tmp_path / "empty").mkdir()
        image(tmp_path / "mixed" / "a.png")
        image(tmp_path / "mixed" / "b" / "a.png")
        for file in ("file.xyz", "broken.npz", "empty.txt"):
            (tmp_path / file).write_bytes(b"")
        (tmp_path / "broken.jsonl").write_text("{no")
        np.savez(tmp_path / "ragged.npz", x=np.zeros(3), z=np.zeros(2))
        np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], object))
        np.savez(tmp_path / "labels.npz", labels=np.zeros(2))
        ref = name if name.startswith("random") else tmp_path / name
        with pytest.raises(SamplesError, match=expected) as caught:
            Samples.open(ref, signature=SIGNATURE)
        assert "\n" not in str(caught.value)

    def test_parquet_without_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtra, match=r"pyarrow is not .* pip install 'onnxpress\[tables"):
            Samples.open(tmp_path / "t.parquet")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.array(3), "the array has no dimensions; expected one row for each sample"),
            ({}, "the samples hold no arrays; expected one array for each input"),
            ({"labels": [1]}, "the samples hold only labels; expected one array for each input"),
            ({"x": 3}, "'x' is a int without rows; expected an array with one row"),
            ({"x": np.array(3)}, "'x' is a ndarray without rows"),
            ({"x": "abc"}, "'x' is a str without rows"),
            ({"x": [1, 2], "labels": 5}, "'labels' is a int without rows"),
            ({"x": [1, 2], "labels": [1]}, "the arrays have different lengths"),
            ([("a", [1, 2])], "the label of sample 0 is a list; expected a number, a text"),
            ([("a", np.array([None, 1]))], r"the label of sample 0 is object\[2\]; expected num"),
            ([Record("a", {"y": 1}, "mine")], "the label of mine is a dict"),  # type: ignore[arg-type]
        ],
    )
    def test_live_objects_of_another_shape(self, value: object, expected: str) -> None:
        with pytest.raises(SamplesError, match=expected) as caught:
            Samples.open(value)
        assert "\n" not in str(caught.value)

    def test_a_limit_below_one(self) -> None:
        with pytest.raises(SamplesError, match="--limit 0"):
            Samples.open(["a"], limit=0)


class TestArrayLabels:
    def paired(self, folder: Path, answers: str, count: int) -> Path:
        for index in range(count):
            image(folder / "images" / f"{index}.jpg")
            image(folder / answers / f"{index}.png", index)
        return folder

    @pytest.mark.parametrize("answers", ["masks", "targets"])
    def test_a_folder_of_images_and_masks(self, tmp_path: Path, answers: str) -> None:
        samples = Samples.open(self.paired(tmp_path, answers, 10))
        assert (samples.kind, len(samples), samples.classes) == ("images", 10, ())
        (tmp_path / "classes.txt").write_text("sky\nroad\n", encoding="utf-8")
        assert Samples.open(tmp_path).classes == ("sky", "road")
        (tmp_path / "classes.txt").unlink()
        assert samples.has_labels
        assert samples.fitting(SIGNATURE) == (samples, "")
        one, two = samples.split(3, 0)
        assert (len(one), len(two)) == (3, 7)
        for record in [*one, *two]:
            assert isinstance(record.value, Path)
            assert record.label == tmp_path / answers / f"{record.value.stem}.png"
        before = samples.fingerprint()
        image(tmp_path / answers / "3.png", 77)
        assert Samples.open(tmp_path).fingerprint() != before

    def test_an_image_without_its_mask(self, tmp_path: Path) -> None:
        (self.paired(tmp_path, "masks", 3) / "masks" / "1.png").unlink()
        with pytest.raises(SamplesError, match=r"1 of 3 .* such as 1.jpg; expected masks/1.png"):
            Samples.open(tmp_path)

    def test_pairs_arrays_and_functions(self, tmp_path: Path) -> None:
        masks = np.arange(24).reshape(6, 2, 2)
        x = np.zeros((6, 3), np.float32)
        np.savez(tmp_path / "a.npz", x=x, labels=masks)
        (tmp_path / "f.py").write_text(
            "import numpy as np\nmasks = np.arange(24).reshape(6, 2, 2)\n"
            "def rows():\n    for mask in masks:\n        yield np.zeros(3, np.float32), mask\n"
        )
        forms = (
            tmp_path / "a.npz",
            f"{tmp_path / 'f.py'}:rows",
            {"x": x, "labels": masks},
            list(zip(x, masks, strict=True)),
        )
        for form in forms:
            samples = Samples.open(form, limit=5)
            assert (len(samples), samples.has_labels) == (5, True)
            one, two = samples.split(2, 1)
            assert (len(one), len(two)) == (2, 3)
            found = [record.label for part in (one, two) for record in part]
            assert sorted(int(np.min(label)) for label in found) == [0, 4, 8, 12, 16]  # type: ignore[arg-type]

    def test_what_an_array_holds_decides_the_fingerprint(self) -> None:
        one, two = (Samples.open([("a", np.full((99, 99), value))]) for value in (0, 1))
        assert one.fingerprint() != two.fingerprint()

    def test_pillow_masks_are_their_indices(self) -> None:
        mask = Image.fromarray(np.array([[0, 2], [1, 0]], np.uint8)).convert("P")
        [record] = Samples.open([("a.png", mask)])
        assert isinstance(record.label, np.ndarray)
        assert record.label.shape == (2, 2)

    def test_listing_the_labels_does_not_keep_the_arrays(self) -> None:
        def stream() -> object:
            for index in range(100):
                yield Record(str(index), np.zeros(100_000))

        samples = Samples(stream, "texts", "masks")  # type: ignore[arg-type]
        tracemalloc.start()
        assert len(samples.split(20, 0)[1]) == 80
        assert samples.has_labels
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000


def test_relabelled_classes(tmp_path: Path) -> None:
    for name in ("3", "17"):
        image(tmp_path / name / "a.png")
    samples = Samples.open(tmp_path)
    assert (samples.classes, samples.labels()) == (("3", "17"), [0, 1])
    numbered = samples.relabelled([3, 17])
    assert (numbered.classes, numbered.labels()) == ((), [3, 17])
    assert [record.label for record in numbered] == [3, 17]
    assert not samples.relabelled([None, None]).has_labels
    assert numbered.fingerprint() != samples.fingerprint()
