"""A bundle on disk is the old one or the new one, opens where it fits, and runs nothing foreign."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from crashes import survey
from onnxpress import bundle, predictor
from onnxpress import model as model_module
from onnxpress.bundle import MANIFEST, BundledForm, Manifest
from onnxpress.errors import BundleError, OnnxpressError
from onnxpress.machine import this_machine
from onnxpress.model import load
from onnxpress.processing import ImageProcessing, Processing
from zoo.bundles import form, manifest, write_bundle, write_model

X = np.array([0, 1, 2], np.float32)
ABSENT = ("AVX9000",)
"""An instruction set that no machine has."""


def predicted(folder: Path) -> list[float]:
    with onnxpress.open(folder) as opened:
        [row] = opened.predict([{"x": X}])
        assert isinstance(row, dict)
        return list(map(float, row["y"]))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(folder: Path, *forms: BundledForm, bias: float = -1.0) -> Manifest:
    model = write_model(folder.with_name("m.onnx"), bias)
    return bundle.write(folder, manifest(*forms), {item.name: model for item in forms})


def damage(folder: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Edit the manifest as JSON."""
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "b")


# --- writing -----------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    first = dataclasses.replace(
        form("fast", isa=(("AVX2", "NEON"), ("FMA",))), made_with="1.2.3", requested="int8"
    )
    given = dataclasses.replace(
        manifest(first, form("slow")),
        processing=Processing(ImageProcessing(size=(4, 5), mean=(0.5,)), ("cat", "dog")),
        provenance={"source": "torch"},
        measurements={"floor": 0.99},
        chosen=None,
    )
    model = write_model(tmp_path / "m.onnx")
    written = bundle.write(tmp_path / "b", given, {"fast": model, "slow": model})
    assert bundle.read(tmp_path / "b") == written
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    name = f"{digest[:16]}.onnx"
    assert [(item.file, item.sha256) for item in written.forms] == [(name, digest)] * 2
    assert dataclasses.replace(written, forms=given.forms) == given
    assert names(tmp_path / "b") == {MANIFEST, name}, "two forms of one file share it"
    assert (tmp_path / "b" / name).read_bytes() == model.read_bytes()


def test_replacing_removes_what_nothing_names_and_nothing_else(folder: Path) -> None:
    old = names(folder)
    for name in ("0123456789abcdef.onnx", ".0123456789abcdef.onnx.tmp", f".{MANIFEST}.tmp"):
        (folder / name).write_text("left by an interrupted write")
    (folder / "0123456789abcdef.onnx.data").write_text("so is this")
    (folder / ".fedcba9876543210.tmp").mkdir()
    kept = {"report.html", "notes.onnx", "0123.onnx", "0123456789abcdef.onnx.bak"}
    for name in kept:
        (folder / name).write_text("the user's")
    (folder / "photos").mkdir()
    assert predicted(folder) == [0, 0, 1]
    write(folder, form("onnxruntime-float32"), bias=1.0)
    assert predicted(folder) == [1, 2, 3]
    new = names(folder) - kept - {"photos"}
    assert len(new) == 2
    assert new & old == {MANIFEST}


def test_writing_the_same_again_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_bundle(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_changed_file_is_mended_by_writing_again(folder: Path) -> None:
    [model] = folder.glob("*.onnx")
    model.write_bytes(b"changed")
    write_bundle(folder)
    assert predicted(folder) == [0, 0, 1]


@pytest.mark.parametrize("content", [{"notes.txt": "hello"}, {MANIFEST: '{"name": "app"}'},
                                     {MANIFEST: "[1]", "x": ""}, {"m.onnx": "x"}])  # fmt: skip
def test_a_folder_of_something_else_is_refused_and_untouched(
    content: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        write(folder, form("a"))
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def test_a_file_and_a_folder_below_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(BundleError, match="is a file; expected a folder to write"):
        write(tmp_path / "file", form("a"))
    with pytest.raises(BundleError, match="does not exist; expected an existing folder"):
        bundle.refuse_foreign(tmp_path / "none" / "b")


@pytest.mark.parametrize(
    "left", [[], [".0123456789abcdef.onnx.tmp", "0123456789abcdef.onnx", f".{MANIFEST}.tmp"]]
)
def test_a_first_write_that_was_interrupted_can_be_done_again(
    left: list[str], tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    for name in left:
        (tmp_path / "b" / name).write_text("half")
    write(tmp_path / "b", form("onnxruntime-float32"))
    assert predicted(tmp_path / "b") == [0, 0, 1]
    assert len(names(tmp_path / "b")) == 2


def test_a_damaged_bundle_can_be_replaced(folder: Path) -> None:
    (folder / MANIFEST).write_text("{ cut")
    write_bundle(folder)
    assert predicted(folder) == [0, 0, 1]


SETUP = """
from onnxpress import bundle
manifest = bundle.read(folder / "b")

def write(name):
    bundle.write(folder / "b", manifest, {"onnxruntime-float32": folder / name})

def seen():
    [form] = bundle.read(folder / "b").forms
    return bundle.check_file(folder / "b", form).name
"""


@pytest.mark.parametrize("large", [False, True])
def test_a_write_that_is_killed_anywhere_leaves_a_whole_bundle(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", 1000 if large else 1 << 30)
    folder = write_bundle(tmp_path / "b")
    [old] = folder.glob("*.onnx")
    new = load(write_model(tmp_path / "new.onnx", 1.0, padding=1000)).save(tmp_path / "new.onnx")
    setup = SETUP
    if large:
        setup += "\nfrom onnxpress import model\nmodel.EXTERNAL_DATA_BYTES = 1000\n"
    answers = survey(tmp_path, setup, "write('new.onnx')", "seen()", "write('b-model.onnx')")
    assert len(answers) > 5
    switched = answers.index(answers[-1])
    assert answers[:switched] == [old.name] * switched
    assert len(set(answers[switched:])) == 1
    assert predicted(folder) == [1, 2, 3]
    assert len(names(folder)) == (3 if large else 2), "what was left is removed"
    assert new.exists()


def test_a_first_write_that_is_killed_anywhere_can_be_done_again(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    setup = SETUP + "import shutil\nshutil.rmtree(folder / 'b')\n"
    again = "write('b-model.onnx') or len(list((folder / 'b').iterdir()))"
    remove = "shutil.rmtree(folder / 'b')"
    answers = survey(tmp_path, setup, "write('b-model.onnx')", again, remove)
    assert len(answers) > 3
    assert set(answers) == {"2"}


@pytest.mark.parametrize("step", ["copy", "manifest"])
def test_a_write_that_fails_leaves_the_old_bundle(
    step: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        *(("shutil.copyfile", fails) if step == "copy" else (Path, "write_text", fails))
    )
    with pytest.raises(OSError, match="No space left"):
        write(folder, form("onnxruntime-float32"), bias=1.0)
    monkeypatch.undo()
    assert predicted(folder) == [0, 0, 1]


def test_a_model_with_external_data_is_bundled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As models past protobuf's 2 GB are; each write names both files by what is in them."""
    monkeypatch.setattr(model_module, "EXTERNAL_DATA_BYTES", 1000)
    small, work, folder = tmp_path / "s.onnx", tmp_path / "work.onnx", tmp_path / "b"
    large = tmp_path / "l.onnx"
    for bias, expected in ((-1.0, [0, 0, 1]), (1.0, [1, 2, 3])):
        for _ in range(2):  # the second save gives the data another name
            load(write_model(large, bias, padding=1000)).save(work)
        assert len(list(tmp_path.glob("work.onnx.*data"))) == 1
        write_model(small, bias)
        given = manifest(form("large"), form("small"))
        for _ in range(2):
            written = bundle.write(folder, given, {"large": work, "small": small})
            assert predicted(folder) == expected
            assert names(folder) == {
                MANIFEST,
                *(item.file for item in written.forms),
                f"{written.forms[0].file}.data",
            }
    data = folder / f"{written.forms[0].file}.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\1")
    with pytest.raises(BundleError, match="was changed or cut"):
        onnxpress.open(folder)
    bundle.write(folder, given, {"large": work, "small": small})
    assert predicted(folder) == [1, 2, 3]


# --- reading -----------------------------------------------------------------------------------


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(
            BundleError, match=r"is not a bundle; expected a folder with bundle\.json"
        ):
            onnxpress.open(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "{}", "[" * 100_000, '"a"',
                                  '{"format_version": 1}', "\x00", "NaN"])  # fmt: skip
def test_a_manifest_that_is_none_is_damaged(text: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json is damaged \(.*\); expected a manifest"):
        onnxpress.open(folder)


def test_every_cut_manifest_is_damaged(folder: Path) -> None:
    whole = (folder / MANIFEST).read_bytes()
    for length in range(0, len(whole) - 2, 13):
        (folder / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(BundleError, match="is damaged"):
            bundle.read(folder)
    (folder / MANIFEST).write_bytes(b"\xff" + whole)
    with pytest.raises(BundleError, match="is damaged"):
        bundle.read(folder)


KEYS = ["task", "signature", "processing", "forms", "objective", "chosen", "provenance",
        "measurements"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_manifest_without_a_key_is_damaged(key: str, folder: Path) -> None:
    with pytest.raises(BundleError, match=rf"is damaged \(KeyError: '{key}'\)"):
        onnxpress.open(damage(folder, lambda data: data.pop(key)))


@pytest.mark.parametrize("value", [5, "a", ["a"], {"a": 1}, [{"a": [1]}], [5]])
@pytest.mark.parametrize("key", ["task", "signature", "processing", "forms"])
def test_a_manifest_of_another_shape_is_an_error_and_no_crash(
    key: str, value: object, folder: Path
) -> None:
    with pytest.raises(OnnxpressError):
        onnxpress.open(damage(folder, lambda data: data.update({key: value})))


@pytest.mark.parametrize("value", [5, ["a"], {"a": [1]}, None])
@pytest.mark.parametrize("key", ["file", "settings", "requires", "engine", "sha256", "name"])
def test_a_form_of_another_shape_is_an_error_or_harmless(
    key: str, value: object, folder: Path
) -> None:
    damage(folder, lambda data: data["forms"][0].update({key: value}))  # type: ignore[index]  # JSON
    if key in ("engine", "name") or (key == "requires" and isinstance(value, dict)):
        # The engine is said twice, a name is only shown, and a new requirement is not known.
        assert predicted(folder) == [0, 0, 1]
    else:
        with pytest.raises(BundleError):
            onnxpress.open(folder)


def test_another_format_is_refused_with_its_number(folder: Path) -> None:
    damage(folder, lambda data: data.update(format_version=2, forms="of another shape"))
    with pytest.raises(BundleError, match="has bundle format 2; expected format 1; upgrade"):
        onnxpress.open(folder)


@pytest.mark.parametrize(
    "name",
    ["../x.onnx", "/etc/passwd", "sub/0123456789abcdef.onnx", "../0123456789abcdef.onnx",
     "0123456789abcdef.onnx\n", "", ".", "..", "bundle.json", "0123456789ABCDEF.onnx",
     "0123456789abcdef.so"],
)  # fmt: skip
def test_a_file_outside_the_bundle_is_refused(name: str, folder: Path) -> None:
    write_model(folder.parent / "x.onnx")
    damage(folder, lambda data: data["forms"][0].update(file=name))  # type: ignore[index]  # JSON
    with pytest.raises(BundleError, match=r"names the file .* a hashed name inside the bundle"):
        onnxpress.open(folder)


def test_a_changed_or_missing_model_file_is_refused(folder: Path) -> None:
    [model] = folder.glob("*.onnx")
    whole = model.read_bytes()
    for content in (whole[:-1], whole + b"x", write_model(folder / "other.onnx", 1.0).read_bytes()):
        model.write_bytes(content)
        with pytest.raises(
            BundleError, match=r"was changed or cut; expected SHA-256 .*press again"
        ):
            onnxpress.open(folder)
    model.unlink()
    with pytest.raises(BundleError, match="is missing; expected every file of the bundle"):
        onnxpress.open(folder)


# --- which form runs ---------------------------------------------------------------------------


def test_the_first_form_that_fits_runs_and_skipped_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        predictor, "this_machine", lambda: dataclasses.replace(this_machine(), isa=("AVX2", "FMA"))
    )
    write(
        tmp_path / "b",
        form("isa", isa=(("AVX2",), ABSENT)),
        form("either", engine="null", isa=(("AVX2", *ABSENT), ABSENT)),
        form("unknown", engine="tensorrt"),
        dataclasses.replace(form("refuses", "openvino"), settings=odd_settings()),
        form("fits", isa=(("AVX2", *ABSENT), ("FMA",))),
        form("later"),
    )
    with onnxpress.open(tmp_path / "b") as opened:
        assert opened.form.name == "fits"
        assert list(opened.skipped) == ["isa", "either", "unknown", "refuses"]
        assert opened.skipped["isa"] == "the CPU has none of AVX9000"
        assert opened.skipped["unknown"] == "unknown engine tensorrt"
        assert "openvino was asked for float8" in opened.skipped["refuses"]
        assert np.array_equal(opened.run({"x": X[None]})["y"], [[0, 0, 1]])


def odd_settings() -> object:
    return dataclasses.replace(form("", "openvino").settings, precision="float8")


def test_an_engine_that_is_not_installed_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "b", ("openvino", "onnxruntime"))
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "openvino" else real(name, *rest),
    )
    with onnxpress.open(tmp_path / "b") as opened:
        assert opened.form.name == "onnxruntime-float32"
        assert opened.skipped == {
            "openvino-float32": "openvino is not available; run: pip install 'onnxpress[openvino]'"
        }


def test_a_file_that_an_engine_cannot_load_is_skipped(tmp_path: Path) -> None:
    model, text = write_model(tmp_path / "m.onnx"), tmp_path / "t.onnx"
    text.write_text("an engine of another version wrote this")
    bundle.write(
        tmp_path / "b",
        manifest(form("a"), form("b", "openvino"), form("c")),
        {"a": text, "b": text, "c": model},
    )
    with onnxpress.open(tmp_path / "b") as opened:
        assert opened.form.name == "c"
        assert all("cannot load" in reason for reason in opened.skipped.values())
        assert list(opened.skipped) == ["a", "b"]


def test_where_no_form_fits_every_reason_is_given(tmp_path: Path) -> None:
    write(tmp_path / "b", form("a", isa=(ABSENT,)), form("b", "tensorrt"))
    with pytest.raises(BundleError) as caught:
        onnxpress.open(tmp_path / "b")
    assert "(a: the CPU has none of AVX9000; b: unknown engine tensorrt)" in str(caught.value)


def test_an_unknown_task_is_an_error_before_an_engine_opens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxpress.registry._modules", lambda socket: {"other": "nothing"})
    with pytest.raises(OnnxpressError, match="unknown task 'tensor'; expected one of other"):
        onnxpress.open(folder)


def test_threads_are_those_of_the_form_unless_asked_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxpress.engines.onnxruntime import OnnxRuntime

    asked = []
    real = OnnxRuntime.open
    monkeypatch.setattr(
        OnnxRuntime, "open", lambda *given: (asked.append(given[2].threads), real(*given))[1]
    )
    onnxpress.open(folder).close()
    onnxpress.open(folder, threads=2).close()
    assert asked == [1, 2]
