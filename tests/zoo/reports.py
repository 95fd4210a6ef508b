"""Results as the report gets them: usual, crowded, sparse and hostile ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

HOSTILE = '<script>alert("1")</script>\u202e|`*_\x1b[31m\nمرحبا 模型 é🚀'

Json = dict[str, object]


def spread(p50: float) -> Json:
    return {
        "mean": p50 * 1.01,
        "std": p50 * 0.02,
        "p50": p50,
        "p95": p50 * 1.05,
        "p99": p50 * 1.11,
    }


def candidate(  # noqa: PLR0917  # a row of a table
    name: str,
    p50: float | None,
    value: float | None,
    low: float | None,
    size_mb: float,
    engine: str = "onnxruntime",
    executed: str = "float32",
    ok: bool = True,
    tie: bool = False,
    reason: str = "",
    against: float = 23.9,
) -> Json:
    ratio = None if p50 is None else against / p50
    return {
        "name": name,
        "file": f"{name}.onnx",
        "engine": engine,
        "settings": {
            "engine": engine,
            "provider": "CPUExecutionProvider" if engine == "onnxruntime" else "CPU",
            "threads": 8,
            "precision": "float32",
            "options": {},
        },
        "requested": executed,
        "executed": executed,
        "latency_ms": None if p50 is None else spread(p50),
        "throughput_per_s": None if p50 is None else 1000 / p50,
        "load_ms": 84.2 if p50 else None,
        "peak_rss_bytes": 312_450_000 if p50 else None,
        "size_bytes": int(size_mb * 1e6),
        "quality": None
        if value is None
        else {
            "value": value,
            "low": low,
            "n": 500,
            "metric": "top1_accuracy",
            "origin": 0.698,
            "candidate": 0.698 * value,
        },
        "speedup": None
        if ratio is None
        else {"value": ratio, "low": ratio * 0.97, "high": ratio * 1.02},
        "tie": tie,
        "ok": ok,
        "reason": reason,
    }


def resnet18() -> Json:
    under = "quality may be as low as 0.962 at the lower end of the interval; the floor is 0.990"
    return {
        "schema_version": 1,
        "command": "press",
        "source": "torch:torchvision.models:resnet18",
        "task": "image_classification",
        "verdict": "openvino-int8 is 5.4× as fast as PyTorch eager on this machine and keeps "
        "99.8 % of its quality.",
        "chosen": "openvino-int8",
        "floor": 0.99,
        "floor_note": "500 samples can prove a floor of up to 0.994",
        "objective": "latency",
        "batch": 1,
        "threads": 8,
        "baseline": {
            "name": "PyTorch eager",
            "engine": "torch",
            "latency_ms": spread(23.9),
            "throughput_per_s": 41.84,
            "load_ms": 412.0,
            "peak_rss_bytes": 618_000_000,
            "size_bytes": 46_830_571,
            "quality": None,
        },
        "candidates": [
            candidate("portable-float32", 9.42, 1.0, 0.9991, 46.7),
            candidate("ort-float32", 8.87, 1.0, 0.9991, 46.7),
            candidate("openvino-float32", 7.61, 1.0, 0.9991, 46.8, "openvino"),
            candidate("openvino-bfloat16", 4.72, 0.9986, 0.9942, 46.8, "openvino", "bfloat16"),
            candidate("openvino-int8", 4.43, 0.998, 0.9931, 11.9, "openvino", "int8"),
            candidate("ort-int8-entropy", 5.02, 0.9959, 0.9904, 11.8, executed="int8"),
            candidate(
                "ort-int8-minmax",
                4.98,
                0.971,
                0.962,
                11.8,
                "onnxruntime",
                "int8",
                False,
                reason=under,
            ),
            candidate(
                "ort-int8-percentile",
                5.07,
                0.9521,
                0.939,
                11.8,
                "onnxruntime",
                "int8",
                False,
                reason=under,
            ),
            candidate("ort-float16", 23.4, 0.9999, 0.9985, 23.4, executed="float16", tie=True),
            candidate(
                "ort-dynamic-int8",
                None,
                None,
                None,
                11.8,
                executed="int8",
                ok=False,
                reason="onnxruntime has no CPU kernel for ConvInteger with 8-bit signed "
                "weights (node /layer1/0/conv1/Conv)",
            ),
        ],
        "quantization": {
            "form": "openvino-int8",
            "layers": [
                {"node": "/layer4/1/conv2/Conv", "error": 0.0213},
                {"node": "/conv1/Conv", "error": 0.0004},
                {"node": "/fc/Gemm", "error": 2e-7},
            ],
            "tensors": [
                {
                    "tensor": "/layer1/0/relu/Relu_output_0",
                    "error": 0.0071,
                    "low": 0.0,
                    "high": 4.5,
                    "seen_low": 0.0,
                    "seen_high": 31.25,
                    "counts": [90210.0, 811.5, 40.0, 0.0, 3.0],
                },
            ],
        },
        "journal": [
            {"step": "fold_constants", "rewrites": 12, "refusals": []},
            {"step": "fuse_conv_bn", "rewrites": 20, "refusals": []},
            {
                "step": "fuse_conv_activation",
                "rewrites": 9,
                "refusals": ["/layer1/0/Add: two consumers"] * 8
                + [f"/layer{n}/1/Add: the sum has a second consumer" for n in range(9)],
            },
        ],
        "conversion": {
            "exporter": "dynamo",
            "fallback_reason": None,
            "opset": 20,
            "verified": {
                "ok": True,
                "rtol": 1e-3,
                "atol": 1e-4,
                "max_abs_diff": 3.1e-6,
                "max_rel_diff": 4.4e-5,
                "cases": [
                    {"shapes": {"x": [n, 3, 224, 224]}, "max_abs_diff": 3.1e-6, "ok": True}
                    for n in (1, 2, 5)
                ],
                "first_mismatch": None,
            },
        },
        "samples": {
            "description": "folder imagenette/val, 10 classes",
            "calibration": 128,
            "scoring": 500,
            "random": False,
        },
        "environment": {
            "machine": {
                "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
                "architecture": "x86_64",
                "system": "Linux",
                "cores": 16,
                "logical_cores": 32,
                "affinity": 16,
                "quota": 8.0,
                "memory_bytes": 33_554_432_000,
                "isa": ["AVX2", "FMA", "AVX512", "AVX512_VNNI", "AMX_INT8", "AMX_BF16"],
                "threads": 8,
            },
            "versions": {"onnxruntime": "1.23.0", "openvino": "2025.3.0", "torch": "2.8.0"},
            "python": "3.11.7",
            "load_average": 0.42,
            "time_utc": "2026-07-14T09:31:07+00:00",
            "warmup": 10,
        },
        "rounds": 50,
        "warnings": [
            "OpenVINO runs float32 models in bfloat16 by default; the hint is float32 "
            "unless the form says bfloat16."
        ],
        "bundle": "bundle/",
    }


def crowd(count: int = 30) -> Json:
    """Many candidates that lie close together."""
    result, draw = resnet18(), random.Random(3)
    result["candidates"] = []
    for index in range(count):
        p50 = 4.3 + abs(draw.gauss(0, 1.6))
        value = min(1.0, 0.999 - abs(draw.gauss(0, 0.008)))
        low = value - draw.uniform(0.001, 0.006)
        engine = ("onnxruntime", "openvino", "tensorrt")[index % 3]
        name = f"{engine}-{('int8', 'float16', 'weight-only')[index // 3 % 3]}-t{index}-g128"
        result["candidates"].append(
            candidate(
                name,
                p50,
                value,
                low,
                draw.uniform(8, 50),
                engine,
                "int8",
                low >= 0.99,
                reason="" if low >= 0.99 else "below the floor",
            )
        )
    result["chosen"] = next(each["name"] for each in result["candidates"] if each["ok"])
    result["verdict"] = f"{result['chosen']} is the fastest of {count} forms above the floor."
    return result


def nothing_won() -> Json:
    result = resnet18()
    result |= {"chosen": None, "bundle": None, "floor_note": None}
    result["verdict"] = "Nothing beats PyTorch eager on this machine, so the original stays."
    result["candidates"] = [
        candidate("ort-float32", 24.6, 1.0, 0.9991, 46.7, tie=True),
        candidate(
            "openvino-float32", 25.3, 1.0, 0.9991, 46.8, "openvino", ok=False, reason="not faster"
        ),
        candidate(
            "ort-int8-minmax",
            15.2,
            0.41,
            0.367,
            11.8,
            executed="int8",
            ok=False,
            reason="below the floor",
        ),
    ]
    return result


def bench(*batches: int) -> Json:
    """As ``bench`` prints it: the baseline is a name, rows instead of candidates."""
    result = resnet18()
    rows = [
        {key: each for key, each in raw.items() if key not in {"ok", "reason", "settings"}}
        | {"batch": batch}
        for batch in batches
        for raw in [result["baseline"], *result["candidates"][:4]]
    ]
    return {
        "schema_version": 1,
        "command": "bench",
        "environment": result["environment"],
        "baseline": "PyTorch eager",
        "rows": rows,
        "failures": {"broken.onnx": "it has no kernel"},
        "missed": ["ort-float32 is slower"],
    }


def lengths(batches: Sequence[int] = (1, 32), sizes: Sequence[int] = (16, 64, 256)) -> Json:
    """A sweep over both, with a candidate whose latency grows faster than the others'."""
    result = bench(*batches)
    rows = []
    for length in sizes:
        for number, raw in enumerate(result["rows"]):
            power = 1.2 if number % 5 == 2 else 0.9
            factor = (length / 16) ** power * raw["batch"] ** 0.8
            latency = {key: value * factor for key, value in raw["latency_ms"].items()}
            rate = raw["batch"] * 1e3 / latency["p50"]
            rows.append({**raw, "length": length, "latency_ms": latency, "throughput_per_s": rate})
    told = "from length 64 on, PyTorch eager is faster than openvino-float32 (a tie at 32)"
    turn = {"axis": "length", "faster": "PyTorch eager", "slower": "openvino-float32", "at": 64}
    quality = {"value": 0.031, "low": -0.1, "n": 64, "metric": "Spearman"}
    return result | {
        "verdict": "openvino-bfloat16 is the fastest at every size: 2.0–3.0× as fast",
        "rows": rows,
        "crossovers": [{**turn, "text": told}],
        "refused": {"broken.onnx": quality},
    }


def sparse() -> Json:
    return {"verdict": None, "candidates": [{"name": "x"}], "baseline": None, "journal": None}


def hostile() -> Json:
    result = resnet18()
    result |= {"source": HOSTILE, "task": HOSTILE, "verdict": HOSTILE, "bundle": HOSTILE}
    result |= {"warnings": [HOSTILE], "journal": [{"step": HOSTILE, "refusals": [HOSTILE]}]}
    result["environment"]["versions"] = {HOSTILE: HOSTILE, "lone surrogate": "\udc80"}
    for each in result["candidates"]:
        each |= {"name": HOSTILE + each["name"], "reason": HOSTILE, "engine": HOSTILE}
        each["settings"]["options"] = {HOSTILE: HOSTILE}
    result["chosen"] = result["candidates"][4]["name"]
    told = result["quantization"]
    told["form"] = told["layers"][0]["node"] = told["tensors"][0]["tensor"] = HOSTILE
    return result


def coincident() -> Json:
    result = crowd(30)
    for each in result["candidates"]:
        each["latency_ms"], each["quality"]["value"] = spread(23.9), 1.0
    return result


def alone() -> Json:
    result = resnet18()
    result["candidates"] = result["candidates"][4:5]
    return result


RESULTS = {
    "resnet18": resnet18,
    "crowd": crowd,
    "nothing_won": nothing_won,
    "sparse": sparse,
    "empty": dict,
    "hostile": hostile,
    "coincident": coincident,
    "alone": alone,
    "bench": lambda: bench(1),
    "sweep": lambda: bench(1, 8, 32),
    "lengths": lengths,
}
