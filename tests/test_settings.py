"""Settings travel with a bundle as JSON."""

from __future__ import annotations

import json

import pytest

from onnxpress.settings import Settings


def test_settings_survive_json() -> None:
    settings = Settings("openvino", "CPU", 3, "bfloat16", {"GROUP": "32"}, {"a": "b"}, 2)
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Settings.from_dict({"engine": "onnxruntime"}) == Settings("onnxruntime")
    assert settings.with_threads(None).threads is None
    assert settings.threads == 3


@pytest.mark.parametrize(
    "data",
    [{"options": [1]}, {"threads": "two"}, {"threads": 1.5}, {"threads": True}, {"requests": "2"}],
)
def test_settings_of_another_shape_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="settings have"):
        Settings.from_dict({"engine": "onnxruntime", **data})
