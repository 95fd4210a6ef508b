"""What users ask goes over the settings of what runs, and what nobody has is refused early."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxpress.engines._onnxruntime_options import session_options
from onnxpress.errors import EngineError, InputError, PluginError
from onnxpress.settings import Settings
from onnxpress.wishes import Wishes, parse_options, read_settings, wishes_of


def test_options_are_pairs() -> None:
    assert parse_options(("a=1", " b = x=y ")) == {"a": "1", "b": "x=y"}
    for pair in ("a", "=1", " =1", ""):
        with pytest.raises(InputError, match="expected KEY=VALUE"):
            parse_options((pair,))


def test_wishes_go_over_settings_of_their_engine_only() -> None:
    wishes = wishes_of(threads=1, session=("execution_mode=parallel",))
    ours = Settings("onnxruntime", threads=2, options={"enable_mem_pattern": "false"})
    assert wishes.over(ours) == Settings(
        "onnxruntime",
        threads=1,
        options={"enable_mem_pattern": "false", "execution_mode": "parallel"},
    )
    assert wishes.over(Settings("openvino")) == Settings("openvino", threads=1)
    assert Wishes().over(ours) == ours


def test_kept_settings_come_before_flags(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    kept = Settings("openvino", threads=1, options={"NUM_STREAMS": "2"}, requests=2)
    path.write_text(json.dumps({"best": kept.to_dict()}))
    assert read_settings(path) == kept
    found = wishes_of(threads=2, session={"ENABLE_CPU_PINNING": "NO"}, settings=path)
    assert found.engine == "openvino"
    assert found.settings == Settings(
        "openvino",
        threads=2,
        options={"NUM_STREAMS": "2", "ENABLE_CPU_PINNING": "NO"},
        requests=2,
    )
    path.write_text(json.dumps(kept.to_dict()))
    assert read_settings(path) == kept
    with pytest.raises(InputError, match="which is for openvino; expected one engine"):
        wishes_of(engine="onnxruntime", settings=path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"best": 3}', '{"engine": "x", "options": 3}'])
def test_a_file_without_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"holds no settings; expected a file that 'onnxpress tu"):
        wishes_of(settings=path)
    for threads in (4096, 0):
        path.write_text(json.dumps({"engine": "onnxruntime", "threads": threads}))
        with pytest.raises(InputError, match=f"settings with threads={threads}; expected a"):
            wishes_of(settings=path)
    with pytest.raises(InputError, match="No such file"):
        wishes_of(settings=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("engine", "pair", "said"),
    [
        (None, "intra_threads=2", "has no session option 'intra_threads'.* intra_op_num_threads"),
        (None, "session.intra_op.allow_spin=0", "expected one of session.intra_op.allow_spinning"),
        (None, "enable_mem_pattern=5", "enable_mem_pattern=5; expected true or false"),
        (None, "session.intra_op.allow_spinning=banana", "=banana; expected true or false"),
        (None, "execution_mode=fast", "expected one of ORT_SEQUENTIAL, ORT_PARALLEL"),
        (None, "inter_op_num_threads=x", "expected a whole number"),
        ("openvino", "STREAMS=2", "openvino has no property 'STREAMS'; expected one of NUM_STREAM"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(
    engine: str | None, pair: str, said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        wishes_of(engine=engine, session=(pair,))


def test_unknown_engines_providers_and_devices_are_refused() -> None:
    with pytest.raises(PluginError, match="unknown engine 'onnxrt'"):
        wishes_of(engine="onnxrt")
    with pytest.raises(InputError, match="unknown provider 'cude'; expected one such as CUDA"):
        wishes_of(provider="cude")
    with pytest.raises(EngineError, match="has no device TPU here; expected one of CPU"):
        wishes_of(engine="openvino", provider="TPU")
    with pytest.raises(InputError, match=r"--session inter_op_num_threads=100000; expected at mo"):
        wishes_of(session=("inter_op_num_threads=100000",))
    with pytest.raises(EngineError, match="openvino has no property 'FOO'"):
        wishes_of(engine="openvino", provider="AUTO", session=("FOO=1",))
    assert wishes_of(engine="openvino", provider="AUTO", session=("NUM_STREAMS=1",)).provider
    with pytest.raises(InputError, match="--threads 0"):
        wishes_of(threads=0)


@pytest.mark.parametrize(
    "pair",
    [
        "execution_mode=parallel",
        "execution_mode=ORT_PARALLEL",
        "graph_optimization_level=basic",
        "graph_optimization_level=all",
        "graph_optimization_level=disable_all",
        "enable_cpu_mem_arena=off",
        "log_severity_level=2",
        "session.set_denormal_as_zero=1",
    ],
)
def test_session_options_of_the_field_are_taken(pair: str) -> None:
    assert wishes_of(session=(pair,)).settings.options == parse_options((pair,))


@pytest.mark.parametrize(("text", "entry"), [("true", "1"), ("on", "1"), ("0", "0"), ("off", "0")])
def test_switches_of_session_entries_mean_what_they_say(text: str, entry: str) -> None:
    """ONNX Runtime takes any word but "1" for off."""
    for key in ("session.intra_op.allow_spinning", "session.disable_cpu_ep_fallback"):
        options = session_options(Settings("onnxruntime", options={key: text}))
        assert options.get_session_config_entry(key) == entry
    plain = {"optimization.disable_specified_optimizers": "GemmActivationFusion"}
    session_options(Settings("onnxruntime", options=plain))
