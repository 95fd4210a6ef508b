"""What every check promises; a new check is adopted by being there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import onnx_ir as ir
import pytest

import zoo
from onnxpress import registry
from onnxpress.check import Check, Finding, Level
from onnxpress.model import Model, load
from zoo.disguise import disguise
from zoo.graphs import serialized

ZooModel = Callable[[str], Path]

every_check = pytest.mark.parametrize("name", registry.names("checks"))
every_model = pytest.mark.parametrize("model_name", zoo.names())


def findings(name: str, model: Model) -> list[Finding]:
    return registry.create(Check, "checks", name).findings(model)


@every_check
@every_model
def test_findings_are_complete_and_repeatable(
    name: str, model_name: str, zoo_model: ZooModel
) -> None:
    model = load(zoo_model(model_name))
    before = serialized(model)
    found = findings(name, model)
    assert serialized(model) == before
    assert findings(name, model) == found
    for finding in found:
        assert finding.check == name
        assert finding.level in get_args(Level)
        assert finding.where
        assert finding.what
        assert json.loads(json.dumps(finding.to_dict())) == finding.to_dict()


@every_check
@every_model
def test_looks_at_no_name_and_no_order(name: str, model_name: str, zoo_model: ZooModel) -> None:
    model = load(zoo_model(model_name))
    other = Model(ir.from_proto(disguise(ir.to_proto(model.ir), seed=3)))

    def kinds(found: list[Finding]) -> list[tuple[str, str]]:
        return sorted((finding.level, finding.op) for finding in found)

    assert kinds(findings(name, other)) == kinds(findings(name, model))
