"""What each check finds, and what it lets pass, on small real models."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxpress
from onnxpress.calibrator import Range
from onnxpress.checks.cpu_fallback import CpuFallback
from onnxpress.checks.custom_operators import CustomOperators
from onnxpress.checks.dynamic_axes import DynamicAxes
from onnxpress.checks.external_data import ExternalData
from onnxpress.checks.int8_risks import Int8Risks
from onnxpress.checks.numeric_range import NumericRange
from onnxpress.checks.operator_support import OperatorSupport
from onnxpress.checks.opset_support import OpsetSupport
from onnxpress.checks.validity import Validity
from onnxpress.finding import ARM, X86, Finding, Kernels, Target
from onnxpress.model import Model, peek
from onnxpress.passes import fuse_layer_norm
from onnxpress.shape_rules import UNDECLARED
from zoo.graphs import answers, parse

RELU = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"
OLD_CPU = Target(architecture=X86, isa=("AVX2", "FMA"))
NEW_CPU = Target(architecture=X86, isa=("AVX2", "FMA", "AVX512", "AVX512_VNNI"))


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.level, finding.where, finding.what) for finding in findings]


class TestOpsetSupport:
    @pytest.mark.parametrize(
        ("opset", "ir_version", "runtime", "where"),
        [
            (17, 8, "1.16", []),
            (19, 9, "1.16.3", []),
            (20, 9, "1.16", ["opset 20"]),
            (17, 10, "1.16", ["IR version 10"]),
            (21, 10, "1.16", ["opset 21", "IR version 10"]),
            (26, 13, "1.31.1", []),
            (28, 14, "1.31.1", ["opset 28", "IR version 14"]),
            (99, 8, "1.31.1", ["opset 99"]),
            (17, 8, "", []),
        ],
    )
    def test_what_a_runtime_knows(
        self, opset: int, ir_version: int, runtime: str, where: list[str]
    ) -> None:
        model = parse(RELU, opset=17)
        model.ir.opset_imports[""], model.ir.ir_version = opset, ir_version
        findings = OpsetSupport().findings(model, Target(runtime))
        assert [finding.where for finding in findings] == where
        assert {finding.level for finding in findings} <= {"error"}

    def test_what_is_too_old_to_be_guaranteed_is_a_warning(self) -> None:
        found = OpsetSupport().findings(parse(RELU, opset=6), Target("1.20"))
        assert [(f.level, f.where) for f in found] == [("warning", "opset 6")]

    def test_opsets_of_trees(self) -> None:
        model = parse(RELU)
        model.ir.opset_imports["ai.onnx.ml"] = 5
        assert OpsetSupport().findings(model, Target("1.18")) == []
        [finding] = OpsetSupport().findings(model, Target("1.17"))
        assert (finding.level, finding.where) == ("error", "ai.onnx.ml 5")

    def test_the_fix_has_the_library_of_operators_that_are_not_onnxs(self, tmp_path: Path) -> None:
        model = parse("(float[N,3] x) => (float[N,3] y) { y = my.ops.Soft(x) }", opset=21)
        model.ir.opset_imports["my.ops"] = 1
        model.ir.ir_version = 9
        [finding] = OpsetSupport().findings(model, Target("1.17"))
        command = "onnxpress opset model.onnx --to 20 -o model-opset20.onnx --custom-ops "
        assert finding.fix == f"name its library in the place of LIB.so: {command}LIB.so"
        model.custom_ops = tmp_path / "my ops.so"
        [finding] = OpsetSupport().findings(model, Target("1.17"))
        assert finding.fix == f"{command}'{tmp_path}/my ops.so'"


class TestOperatorSupport:
    def test_nothing_where_onnxruntime_opens_it(self) -> None:
        target = Target("1.31", kernels=Kernels())
        assert OperatorSupport().findings(parse(RELU), target) == []

    def test_kernels_of_another_version_are_unknown(self) -> None:
        [finding] = OperatorSupport().findings(parse(RELU), Target("1.16", asked=True))
        assert finding.level == "info"
        assert "only known where it is installed" in finding.what
        assert OperatorSupport().findings(parse(RELU), Target("1.16")) == []

    def test_a_refusal_that_no_kernel_explains(self) -> None:
        kernels = Kernels(refusal="the moon is full")
        [finding] = OperatorSupport().findings(parse(RELU), Target("1.31", kernels=kernels))
        assert (finding.level, "the moon is full" in finding.what) == ("error", True)
        newer = parse(RELU)
        newer.ir.ir_version = 14
        assert OperatorSupport().findings(newer, Target("1.31", kernels=kernels)) == []


class TestInt8Risks:
    def product(self, kind: str, largest: int = 100) -> Model:
        """A product of an activation and a weight, both quantised to ``kind``: ``u8s8``."""
        a, w = (np.uint8 if letter == "u" else np.int8 for letter in kind[::2])
        body = """q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
                  v = DequantizeLinear(w, s, zw) y = MatMul(d, v)"""
        return parse(
            f"(float[N,3] x) => (float[N,2] y) {{ {body} }}",
            s=np.float32(0.1), z=a(0), zw=w(0), w=np.full((3, 2), largest, w),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("kind", "largest", "saturates"),
        [
            ("u8s8", 100, True),
            ("u8s8", 65, True),
            ("u8s8", 64, False),
            ("s8s8", 100, True),
            ("s8s8", 64, False),
            ("u8u8", 100, False),
        ],
    )
    def test_s8_saturates_where_two_products_overflow(
        self, kind: str, largest: int, saturates: bool
    ) -> None:
        findings = Int8Risks().findings(self.product(kind, largest), OLD_CPU)
        assert [f.op for f in findings] == ["MatMul", ""][0 if saturates else 1 :]
        assert "1 int8 product, but no int8 dot product in AVX2, FMA" in findings[-1].what
        assert {f.level for f in findings} == {"warning"}

    def test_integer_operators(self) -> None:
        body = "q, s, z = DynamicQuantizeLinear(x) y = MatMulInteger(q, w, z)"
        text = f"(float[N,3] x) => (int32[N,2] y) {{ {body} }}"
        model = parse(text, w=np.full((3, 2), -128, np.int8))
        assert [f.op for f in Int8Risks().findings(model, OLD_CPU)] == ["MatMulInteger", ""]

    def test_nothing_with_vnni_on_an_unknown_cpu_or_in_float(self) -> None:
        assert Int8Risks().findings(self.product("u8s8"), NEW_CPU) == []
        assert Int8Risks().findings(self.product("u8s8"), Target()) == []
        text = "(float[N,3] x) => (float[N,2] y) { y = MatMul(x, w) }"
        assert Int8Risks().findings(parse(text, w=np.ones((3, 2), np.float32)), OLD_CPU) == []

    def test_arm_does_not_saturate_and_is_slow_without_dot_products(self) -> None:
        findings = Int8Risks().findings(
            self.product("u8s8"), Target(architecture=ARM, isa=("NEON",))
        )
        assert [f.op for f in findings] == [""]
        dot = Target(architecture=ARM, isa=("NEON", "DOTPROD"))
        assert Int8Risks().findings(self.product("u8s8"), dot) == []


class TestNumericRange:
    @pytest.mark.parametrize(
        ("value", "what"),
        [
            (-1e9, "the value is infinite in float16, up to ±1e+09"),
            (np.finfo(np.float32).min, "the value is infinite in float16, up to ±3.403e+38"),
            (65505.0, "the value is infinite in float16, up to ±6.55e+04"),
            (1e-12, "becomes 0 in float16, the largest value is ±1e-12"),
            (65504.0, None),
            (6e-8, None),
            (0.0, None),
            (-np.inf, None),
        ],
    )
    def test_constants(self, value: float, what: str | None) -> None:
        text = "(float[N,3] x) => (float[N,3] y) { y = Add(x, c) }"
        findings = NumericRange().findings(parse(text, c=np.float32(value)))
        assert told(findings) == ([("warning", "c", what)] if what else [])

    def test_few_small_weights_among_others_are_nothing(self) -> None:
        text = "(float[N,3] x) => (float[N,3] y) { y = Add(x, c) }"
        assert NumericRange().findings(parse(text, c=np.array([1e-12, 1, 2], np.float32))) == []
        [finding] = NumericRange().findings(parse(text, c=np.array([-1e9, 1, 2], np.float32)))
        assert finding.what.startswith("1 of 3 values are infinite")

    def test_a_constant_node_and_a_constant_in_a_branch(self) -> None:
        body = """c = Constant<value_float = -1e9>()
                  y = If(q)<then_branch = g () => (float[N,3] a) { a = Add(x, c) },
                            else_branch = h () => (float[N,3] b) {
                                d = Constant<value_float = 1e7>() b = Add(x, d) }>"""
        model = parse(f"(float[N,3] x, bool q) => (float[N,3] y) {{ {body} }}")
        assert [f.where for f in NumericRange().findings(model)] == ["c", "d"]

    def test_the_bounds_of_clip_may_be_infinite_and_integers_may_be_large(self) -> None:
        text = """(float[N,3] x, int64[N,3] i) => (float[N,3] y, int64[N,3] j)
                  { y = Clip(x, low, high) j = Add(i, k) }"""
        model = parse(text, low=np.float32(0), high=np.float32(3e38), k=np.int64(10**12))
        assert NumericRange().findings(model) == []

    def test_activations_on_samples(self) -> None:
        ranges = {"h": Range(-7e4, 2.0), "e": Range(0.0, 1e-9), "n": Range(0, 0), "y": Range(-1, 1)}
        findings = NumericRange().findings(parse(RELU), Target(ranges=ranges))
        assert [(f.where, f.what.rpartition(": ")[2]) for f in findings] == [
            ("h", "infinite in float16"),
            ("e", "all 0 in float16"),
        ]


class TestCpuFallback:
    BODY = """a = Relu(x) d = Det(a) e = Tan(d) i = Identity(e) f = Relu(i) y = Hardmax(f)
              s = Shape(x)"""
    MODEL = f"(float[N,3,3] x) => (float[N] y, int64[3] s) {{ {BODY} }}"

    def test_islands_by_the_table_for_cuda(self) -> None:
        target = Target(provider="CUDAExecutionProvider")
        findings = CpuFallback().findings(parse(self.MODEL), target)
        assert [f.what.partition(" run")[0] for f in findings] == [
            "2 nodes (Det, Tan)",
            "1 node (Hardmax)",
        ]
        assert CpuFallback().findings(parse(RELU), target) == []

    def test_uint8_by_int8_has_no_cuda_kernel(self) -> None:
        text = "(uint8[N,3] x) => (int32[N,2] y) { y = MatMulInteger(x, w) }"
        target = Target(provider="CUDAExecutionProvider")
        [finding] = CpuFallback().findings(parse(text, w=np.ones((3, 2), np.int8)), target)
        assert "runs none of the 1 nodes" in finding.what
        signed = parse(text.replace("uint8", "int8"), w=np.ones((3, 2), np.int8))
        assert CpuFallback().findings(signed, target) == []

    def test_what_onnxruntime_assigned_is_believed(self) -> None:
        model = parse("(float[N,3] x) => (float[N,3] y) { a = Relu(x) b = Tan(a) y = Relu(b) }")
        for node, name in zip(model.nodes(), "abc", strict=True):
            node.name = name
        assigned = dict.fromkeys("bc", "QNNExecutionProvider") | {"a": "CPUExecutionProvider"}
        target = Target(provider="QNNExecutionProvider", kernels=Kernels(assigned=assigned))
        [finding] = CpuFallback().findings(model, target)
        assert (finding.where, finding.op) == ("a", "Relu")

    def test_without_a_provider_nothing_and_of_an_unknown_one_that(self) -> None:
        assert CpuFallback().findings(parse(self.MODEL)) == []
        [finding] = CpuFallback().findings(parse(RELU), Target(provider="QNNExecutionProvider"))
        assert finding.level == "info"


class TestDynamicAxes:
    @pytest.mark.parametrize(
        ("provider", "options", "level"),
        [
            ("QNNExecutionProvider", {}, "error"),
            ("OpenVINOExecutionProvider", {"device_type": "NPU"}, "error"),
            ("OpenVINOExecutionProvider", {"device_type": "GPU"}, None),
            ("TensorrtExecutionProvider", {}, "warning"),
            ("TensorrtExecutionProvider", {"trt_profile_min_shapes": "x:1x3"}, None),
            ("CUDAExecutionProvider", {}, None),
            ("", {}, None),
        ],
    )
    def test_who_cares(self, provider: str, options: dict[str, str], level: str | None) -> None:
        target = Target(provider=provider, options=options)
        findings = DynamicAxes().findings(parse(RELU), target)
        assert [(f.level, f.where) for f in findings] == ([(level, "x")] if level else [])
        fixed = parse("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
        assert DynamicAxes().findings(fixed, target) == []

    def test_tensorrt_is_told_its_profile(self) -> None:
        target = Target(provider="TensorrtExecutionProvider")
        [finding] = DynamicAxes().findings(parse(RELU), target)
        assert "onnxpress optimize model.onnx --fix N=1 -o model-static.onnx" in finding.fix
        assert "trt_profile_min_shapes=x:1x3,trt_profile_opt_shapes=x:8x3" in finding.fix


class TestExternalData:
    def model(self, folder: Path, location: str) -> Path:
        """``y = x + w`` whose three weights are said to be in ``location``."""
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> graph (float[N,3] x) => (float[N,3] y) '
            "{ y = Add(x, w) }"
        )
        tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "12"}.items():
            tensor.external_data.add(key=key, value=value)
        proto.graph.initializer.append(tensor)
        path = folder / "m.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    def test_whole_data_beside_the_model_is_fine(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(bytes(12))
        path = self.model(tmp_path, "w.bin")
        assert ExternalData().findings(peek(path)) == []
        assert onnxpress.check(path).ok

    @pytest.mark.parametrize(
        ("location", "what"),
        [
            ("w.bin", "is missing"),
            ("/etc/hostname", "points outside the model's folder"),
            ("../w.bin", "points outside the model's folder"),
            ("short.bin", "has 4 bytes"),
            ("link.bin", "points outside the model's folder"),
            ("hard.bin", "is a hard link"),
        ],
    )
    def test_what_load_refuses_is_a_finding(self, location: str, what: str, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (tmp_path / "w.bin").write_bytes(bytes(12))
        (folder / "short.bin").write_bytes(bytes(4))
        (folder / "link.bin").symlink_to(tmp_path / "w.bin")
        os.link(tmp_path / "w.bin", folder / "hard.bin")
        path = self.model(folder, location)
        checked = onnxpress.check(path)
        assert not checked.ok
        [finding] = checked.findings
        assert (finding.check, finding.where) == ("external_data", "w")
        assert what in finding.what
        assert "numeric_range" in checked.skipped
        with pytest.raises(onnxpress.OnnxpressError):
            onnxpress.load(path)

    def test_no_byte_of_a_file_elsewhere_is_read(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)  # who opens it waits for ever
        folder = tmp_path / "model"
        folder.mkdir()
        assert not onnxpress.check(self.model(folder, "../pipe")).ok


class TestValidity:
    def test_the_checkers_first_fault(self, tmp_path: Path) -> None:
        model = parse(RELU)
        assert Validity().findings(model) == []
        broken = parse("(float[N,3] x) => (float[N,3] y) { y = Relu<slope = 1.0>(x) }")
        [finding] = Validity().findings(broken)
        assert finding.level == "error"
        assert "Unrecognized attribute: slope" in finding.what
        [again] = Validity().findings(peek(broken.save(tmp_path / "broken.onnx")))
        assert again.where.endswith("broken.onnx")

    @pytest.mark.parametrize(
        ("op", "opset", "level"),
        [
            ("LayerNormalization", 16, ["info"]),
            ("LayerNormalization", 17, []),
            ("SimplifiedLayerNormalization", 17, ["info"]),
            ("SimplifiedLayerNormalization", 23, ["info"]),
            ("RMSNormalization", 17, ["error"]),
        ],
    )
    def test_what_onnxruntime_has_in_onnxs_own_domain(
        self, op: str, opset: int, level: list[str], tmp_path: Path
    ) -> None:
        text = f"(float[N,3] x) => (float[N,3] y) {{ a = {op}(x, w) y = {op}(a, w) }}"
        model = parse(text, opset, w=np.ones(3, np.float32))
        loaded = peek(model.save(tmp_path / "net.onnx"))
        for one in (model, loaded):
            assert [finding.level for finding in Validity().findings(one)] == level
        if level == ["info"]:
            answers(model, {"x": np.ones((2, 3), np.float32)})
            [finding] = Validity().findings(loaded)
            assert (finding.op, "(2 nodes)" in finding.what) == (op, True)
            assert " ORIGINAL.onnx --target portable -o net-portable.onnx" in finding.fix
        assert onnxpress.check(tmp_path / "net.onnx").ok == (level != ["error"])

    @pytest.mark.parametrize(
        ("inner", "last", "told"),
        [
            ("LayerNorm(a)", "Relu(z)", "LayerNorm"),
            ("SimplifiedLayerNormalization(a, w)", "Relu<slope = 1.0>(z)", "slope"),
        ],
    )
    def test_other_faults_are_found_beside_it(
        self, inner: str, last: str, told: str, tmp_path: Path
    ) -> None:
        body = f"""a = SimplifiedLayerNormalization(x, w)
                   z = If (b) <then_branch = then () => (float[N,3] t) {{ t = {inner} }},
                               else_branch = other () => (float[N,3] e) {{ e = Identity(a) }}>
                   y = {last}"""
        model = parse(
            f"(float[N,3] x, bool b) => (float[N,3] y) {{ {body} }}", w=np.ones(3, np.float32)
        )
        info, error = Validity().findings(peek(model.save(tmp_path / "net.onnx")))
        assert (info.level, error.level) == ("info", "error")
        assert error.what.startswith("net.onnx is not valid ONNX")
        assert told in error.what

    def test_what_the_passes_write_is_known(self) -> None:
        assert set(fuse_layer_norm.OWN.values()) == set(UNDECLARED)


class TestCustomOperators:
    TEXT = "(float[N,3] x) => (float[N,3] y) { a = my.ops.Soft(x) y = my.ops.Soft(a) }"

    def test_each_operator_once(self, tmp_path: Path) -> None:
        model = parse(self.TEXT)
        model.ir.opset_imports["my.ops"] = 1
        [finding] = CustomOperators().findings(model)
        assert (finding.level, finding.op) == ("error", "Soft")
        assert finding.fix.endswith(": onnxpress check model.onnx --custom-ops LIB.so")
        model.custom_ops = tmp_path / "soft.so"
        assert CustomOperators().findings(model) == []

    def test_operators_of_onnxruntime_are_no_custom_ones(self) -> None:
        model = parse("(float[N,3] x) => (float[N,3] y) { y = com.microsoft.Gelu(x) }")
        model.ir.opset_imports["com.microsoft"] = 1
        assert CustomOperators().findings(model) == []
