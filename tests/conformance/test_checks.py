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
from onnxpress.calibrator import Range
from onnxpress.finding import ANYWHERE, ARM, X86, Check, Finding, Kernels, Level, Target
from onnxpress.model import Model, load
from zoo.disguise import disguise
from zoo.graphs import serialized

ZooModel = Callable[[str], Path]

TARGETS = {
    "anywhere": ANYWHERE,
    "old": Target("1.12", asked=True, architecture=X86, isa=("AVX2", "FMA")),
    "cuda": Target("1.31", provider="CUDAExecutionProvider", architecture=ARM, isa=("NEON",)),
    "npu": Target(
        "1.31",
        provider="OpenVINOExecutionProvider",
        options={"device_type": "NPU"},
        ranges={"x": Range(-1e6, 1.0)},
        kernels=Kernels(missing={"nothing": "float"}, casts=2, refusal="it is Tuesday"),
    ),
}

every_target = pytest.mark.parametrize("target", TARGETS)
every_check = pytest.mark.parametrize("name", registry.names("checks"))
every_model = pytest.mark.parametrize("model_name", zoo.names())


def findings(name: str, model: Model, target: Target = ANYWHERE) -> list[Finding]:
    return registry.create(Check, "checks", name).findings(model, target)


@every_check
@every_target
@every_model
def test_findings_are_complete_and_repeatable(
    name: str, target: str, model_name: str, zoo_model: ZooModel
) -> None:
    model = load(zoo_model(model_name))
    before = serialized(model)
    found = findings(name, model, TARGETS[target])
    assert serialized(model) == before
    assert findings(name, model, TARGETS[target]) == found
    for finding in found:
        assert finding.fix
        assert finding.check == name
        assert finding.level in get_args(Level)
        assert finding.where
        assert finding.what
        assert json.loads(json.dumps(finding.to_dict())) == finding.to_dict()


@every_check
@every_target
@every_model
def test_looks_at_no_name_and_no_order(
    name: str, target: str, model_name: str, zoo_model: ZooModel
) -> None:
    model = load(zoo_model(model_name))
    other = Model(ir.from_proto(disguise(ir.to_proto(model.ir), seed=3)))

    def kinds(found: list[Finding]) -> list[tuple[str, str]]:
        return sorted((finding.level, finding.op) for finding in found)

    assert kinds(findings(name, other, TARGETS[target])) == kinds(
        findings(name, model, TARGETS[target])
    )
