"""What the readers make of odd files and objects: the right records, or one line that says why."""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onnxpress.errors import SamplesError
from onnxpress.samples import Samples
from onnxpress.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 3)),), ())


def refused(ref: object, expected: str, label: str | None = None) -> None:
    """Opening ``ref`` or reading all of it raises one line."""
    with pytest.raises(SamplesError, match=expected) as caught:
        list(Samples.open(ref, label=label, signature=SIGNATURE))
    assert "\n" not in str(caught.value)


class TestTables:
    def test_a_spreadsheets_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("y,name\n1,é\n\n0,ü\n", encoding="utf-8-sig")
        samples = Samples.open(path, label="y")
        assert samples.labels() == [1, 0]
        assert [record.value for record in samples] == [{"name": "é"}, {"name": "ü"}]
        (tmp_path / "t.txt").write_text("one\r\ntwo", encoding="utf-8-sig")
        assert [record.value for record in Samples.open(tmp_path / "t.txt")] == ["one", "two"]

    def test_numbers_are_what_tables_write_as_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text('a\n1\n-2.5\n1e3\n1_000\n1-2\n"3,5"\n', encoding="utf-8")
        values = [record.value["a"] for record in Samples.open(path)]  # type: ignore[call-overload, index]
        assert values == [1, -2.5, 1000, "1_000", "1-2", "3,5"]
        assert [type(value) for value in values[:3]] == [int, float, float]

    @pytest.mark.parametrize("rows", ["1,2,3", "1"])
    def test_a_row_of_other_length_is_named(self, tmp_path: Path, rows: str) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f"a,b\n1,2\n{rows}\n", encoding="utf-8")
        refused(path, f"line 3 has {rows.count(',') + 1} fields; expected 2, one a column")

    @pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.jsonl"])
    def test_another_encoding(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes('"Müller"\n'.encode("latin-1") * 3)
        refused(tmp_path / name, f"{name} cannot be read .*'utf-8' codec.*expected .*UTF-8")

    def test_another_format(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing")
        refused(tmp_path / "t.parquet", "t.parquet cannot be read .*whole .parquet")
        (tmp_path / "t.csv").write_text("a\n" + "x" * 200_000)
        refused(tmp_path / "t.csv", "t.csv cannot be read .field larger than")

    def test_lines_of_two_forms(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        path.write_text('{"text": "a"}\n{"txt": "b"}\n')
        refused(path, "line 2 is an object without 'text'; expected the first line's form")
        path.write_text('{"a": 1}\n"b"\n')
        refused(path, "line 2 is a text; expected the first line's form")
        path.write_text('{"a": 1}\n[2]\n')
        refused(path, "line 2 is no JSON text or object")

    def test_texts_and_objects_with_text_may_mix(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        path.write_text('"a"\n\n{"text": "b", "label": "good"}\n')
        samples = Samples.open(path)
        assert [record.value for record in samples] == ["a", "b"]
        assert samples.labels() == [None, "good"]

    @pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
    def test_a_missing_label_column_says_which_there_are(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "t.csv").write_text("a,b\n1,2\n")
        (tmp_path / "t.jsonl").write_text('{"a": 1, "b": 2}\n')
        refused(tmp_path / name, "no column 'y'; expected --label with one of a, b", label="y")

    def test_a_label_column_needs_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "t.txt").write_text("a\n")
        for ref in (tmp_path, tmp_path / "t.txt", "random:3", [np.zeros(3)]):
            refused(ref, "--label y with .*; expected a table: .csv, .jsonl, .parquet", label="y")


class TestNpz:
    def test_another_byte_order_is_read_as_this_machines(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.arange(6, dtype=">f4").reshape(2, 3))
        (first, second) = Samples.open(tmp_path / "a.npz")
        assert isinstance(second.value, dict)
        assert second.value["x"].dtype == np.float32
        assert second.value["x"].dtype.isnative
        np.testing.assert_array_equal(second.value["x"], [3, 4, 5])
        first.value["x"][0] = 9  # type: ignore[index, call-overload]  # the caller owns it

    def test_labels_of_one_value_in_an_array_are_plain(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), labels=np.array([[1], [0]]))
        assert Samples.open(tmp_path / "a.npz").labels() == [1, 0]

    def test_columns_first(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.asfortranarray(np.ones((4, 3))))
        refused(
            tmp_path / "a.npz", r"holds columns first \(Fortran order\); expected plain numbers"
        )

    def test_arrays_without_rows(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.float32(3))
        refused(tmp_path / "a.npz", "holds no samples")
        np.savez(tmp_path / "a.npz", x=np.zeros((0, 3)))
        refused(tmp_path / "a.npz", "holds no samples")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_bytes_that_changed_on_disk(self, tmp_path: Path, save: object) -> None:
        path = tmp_path / "a.npz"
        save(path, x=np.random.default_rng(0).random((100, 30)))  # type: ignore[operator]
        whole = bytearray(path.read_bytes())
        rng = random.Random(0)
        for _ in range(60):
            broken = bytearray(whole)
            broken[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.write_bytes(broken[: rng.choice([len(whole), rng.randrange(len(whole))])])
            try:
                list(Samples.open(path))
            except SamplesError as error:
                assert "\n" not in str(error)

    def test_a_zip_of_other_things(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("notes.txt", "no array")
        refused(tmp_path / "a.npz", "a.npz cannot be read")


MINE = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import beside

DATA = Path(__file__).with_name("data.txt")

@dataclass
class Row:
    values: list[float]

def rows():
    for line in DATA.read_text().split():
        yield np.full(3, Row([float(line)]).values, np.float32), len(line)

def listed():
    return [np.zeros(3, np.float32)] * beside.COUNT

def nothing():
    pass

def inside():
    yield np.zeros(3)
    np.zeros(3).reshape(2)

def wrong():
    yield object()

not_a_function = 3
"""


class TestFunctions:
    @pytest.fixture
    def mine(self, tmp_path: Path) -> Path:
        (tmp_path / "beside.py").write_text("COUNT = 4\n")
        (tmp_path / "data.txt").write_text("1 2.5 3")
        (tmp_path / "mine.py").write_text(MINE)
        return tmp_path / "mine.py"

    def test_modules_beside_it_and_dataclasses_work(self, mine: Path) -> None:
        assert len(Samples.open(f"{mine}:listed")) == 4
        samples = Samples.open(f"{mine}:rows")
        assert samples.kind == "tensors"
        assert samples.labels() == [1, 3, 1]

    def test_the_fingerprint_is_that_of_what_it_yields(self, mine: Path) -> None:
        def fingerprint() -> str:
            return Samples.open(f"{mine}:rows").fingerprint()

        before = fingerprint()
        assert fingerprint() == before
        mine.with_name("data.txt").write_text("1 2.5 4")
        assert fingerprint() != before

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("nothing", "mine.py:nothing returned NoneType; expected samples to iterate over"),
            ("inside", r"mine.py:inside raised ValueError: cannot reshape .* \(line 26\)"),
            ("wrong", "sample 0 is a object; expected a path, text, bytes, array or mapping"),
            ("absent", "mine.py has no function 'absent'"),
            ("not_a_function", "mine.py has no function 'not_a_function'"),
        ],
    )
    def test_what_is_wrong_with_it_is_told(self, mine: Path, name: str, expected: str) -> None:
        refused(f"{mine}:{name}", expected)

    def test_a_file_that_does_not_run(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.py"
        path.write_text("x = (\n")
        refused(f"{path}:rows", "broken.py raised SyntaxError: .*line 1")
        path.write_text("\nimport no_such_module\n")
        refused(f"{path}:rows", r"broken.py raised ModuleNotFoundError: .*\(line 2\)")
        refused(f"{tmp_path / 'absent.py'}:rows", "absent.py does not exist")


class TestLive:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"])
    def test_pillow_images_of_any_mode_are_the_pixels_that_one_sees(self, mode: str) -> None:
        colours = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        image = Image.fromarray(colours)
        if mode == "I;16":
            image = Image.fromarray(colours[:, :, 0].astype(np.uint16) * 257)
            seen = colours[:, :, 0]
        else:
            image = image.convert("L").convert(mode) if mode == "LA" else image.convert(mode)
            seen = np.asarray(image.convert("L" if mode == "L" else "RGB"))
        samples = Samples.open([image])
        assert samples.kind == "images"
        (record,) = samples
        np.testing.assert_array_equal(np.asarray(record.value), seen)

    def test_tensors_of_torch(self) -> None:
        samples = Samples.open([torch.ones(3, requires_grad=True), torch.zeros(3)])
        assert samples.kind == "tensors"
        assert [float(np.asarray(record.value)[0]) for record in samples] == [1, 0]

    def test_labels_of_numpy_are_plain_numbers(self) -> None:
        samples = Samples.open([(np.zeros(3), np.int64(4)), (np.zeros(3), np.array(5))])
        assert [type(label) for label in samples.labels()] == [int, int]

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (Path("a.png"), "images"),
            ("a.png", "images"),
            ("a sentence", "texts"),
            (b"\x89PNG", "images"),
            (np.zeros((4, 4, 3), np.uint8), "images"),
            (np.zeros((4, 4, 3), np.float32), "tensors"),
            ({"x": np.zeros(3)}, "tensors"),
            ({"age": 3, "name": "x"}, "rows"),
        ],
    )
    def test_kinds(self, value: object, kind: str) -> None:
        assert Samples.open([value]).kind == kind

    @pytest.mark.parametrize("path", [Path, str])
    def test_a_changed_file_changes_the_fingerprint(self, tmp_path: Path, path: type) -> None:
        file = tmp_path / "a.png"
        Image.new("L", (2, 2)).save(file)
        before = Samples.open([path(file)]).fingerprint()
        assert Samples.open([path(file)]).fingerprint() == before
        os.utime(file, ns=(1, 1))
        assert Samples.open([path(file)]).fingerprint() != before

    def test_fingerprints_of_rows_hold_no_addresses(self) -> None:
        def rows() -> list[object]:
            return [{"a": None, "b": "x" * 3, "c": np.array([[1], "y"], object)}]

        assert Samples.open(rows()).fingerprint() == Samples.open(rows()).fingerprint()

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ((x for x in "ab"), "samples are a generator; expected a folder"),
            ({"x": [1, 2], "y": [1]}, "the arrays have different lengths"),
            ([object()], "sample 0 is a object"),
            (3, "samples are a int"),
            ([], "holds no samples"),
        ],
    )
    def test_refusals(self, value: object, expected: str) -> None:
        refused(value, expected)


class TestRandom:
    @pytest.mark.parametrize("count", ["", "0", "-3", "2.5", "²", "many"])
    def test_the_number_is_checked(self, count: str) -> None:
        refused(f"random:{count}", "random:N with N at least 1")

    def test_a_seed_below_zero(self) -> None:
        with pytest.raises(SamplesError, match="--seed -1; expected a number of at least 0"):
            Samples.open("random:3", signature=SIGNATURE, seed=-1)

    def test_it_needs_to_know_the_inputs(self) -> None:
        with pytest.raises(SamplesError, match="needs the model's inputs"):
            Samples.open("random:3")
        unknown = Signature((TensorSpec("x", "float32", None),), ())
        with pytest.raises(SamplesError, match=r"random values for input x: float32\[…\]"):
            list(Samples.open("random:3", signature=unknown))


def test_labels_that_are_all_different_are_drawn_from_everywhere() -> None:
    """As those of a regression on whole numbers: each is a class of its own."""
    samples = Samples.open([(np.zeros(1), label) for label in range(200)])
    calibration, _ = samples.split(20, seed=0)
    assert max(int(label or 0) for label in calibration.labels()) > 100
