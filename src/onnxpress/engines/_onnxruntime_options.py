"""ONNX Runtime's session options from settings, each checked by name and type."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from onnxpress.errors import EngineError, InputError, nearest
from onnxpress.machine import this_machine
from onnxpress.provider import SWITCHES, provider_of
from onnxpress.settings import Settings

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"
KEYS_OF = (1, 31)
"""The newest ONNX Runtime whose keys are ``KEYS``; what a newer one has besides is let through."""
KEYS = frozenset(
    {
        "ep.context_embed_mode",
        "ep.context_enable",
        "ep.context_file_path",
        "ep.context_model_external_initializers_file_name",
        "ep.context_node_name_prefix",
        "ep.enable_weightless_ep_context_nodes",
        "ep.share_ep_contexts",
        "ep.stop_share_ep_contexts",
        "memory.enable_memory_arena_shrinkage",
        "mlas.disable_kleidiai",
        "mlas.enable_gemm_fastmath_arm64_bfloat16",
        "mlas.use_lut_gemm",
        "optimization.disable_specified_optimizers",
        "optimization.enable_cast_chain_elimination",
        "optimization.enable_gelu_approximation",
        "optimization.minimal_build_optimizations",
        "session.allow_released_opsets_only",
        "session.collect_node_memory_stats_to_file",
        "session.debug_layout_transformation",
        "session.disable_aot_function_inlining",
        "session.disable_cpu_ep_fallback",
        "session.disable_double_qdq_remover",
        "session.disable_model_compile",
        "session.disable_prepacking",
        "session.disable_qdq_constant_folding",
        "session.disable_quant_qdq",
        "session.dynamic_block_base",
        "session.enable_dq_matmulnbits_fusion",
        "session.enable_quant_qdq_cleanup",
        "session.force_spinning_stop",
        "session.graph_optimizations_loop_level",
        "session.inter_op.allow_spinning",
        "session.inter_op.spin_backoff_max",
        "session.inter_op.spin_duration_us",
        "session.intra_op.allow_spinning",
        "session.intra_op.spin_backoff_max",
        "session.intra_op.spin_duration_us",
        "session.intra_op_thread_affinities",
        "session.load_model_format",
        "session.max_shape_override",
        "session.model_external_initializers_file_folder_path",
        "session.node_partition_config_file",
        "session.optimized_model_external_initializers_file_name",
        "session.optimized_model_external_initializers_min_size_in_bytes",
        "session.qdq_matmulnbits_accuracy_level",
        "session.qdq_matmulnbits_block_size",
        "session.qdqisint8allowed",
        "session.record_ep_graph_assignment_info",
        "session.resource_cuda_partitioning_settings",
        "session.save_external_prepacked_constant_initializers",
        "session.save_model_format",
        "session.set_denormal_as_zero",
        "session.strict_shape_type_inference",
        "session.use_device_allocator_for_initializers",
        "session.use_env_allocators",
        "session.use_ort_model_bytes_directly",
        "session.use_ort_model_bytes_for_initializers",
        "session.x64quantprecision",
    }
)
"""Those that ONNX Runtime's library for CPUs names, and what ARM and compiled contexts have."""
OF_PROVIDER = re.compile(r"ep\.\w+\.\w+")
"""Keys that a provider defines itself, such as ``ep.dml.disable_graph_fusion``."""
SWITCH = re.compile(
    r"\b(allow|disable|enable|use|set|force|strict|record|share|stop|debug)_|_enable$|embed_mode$"
    r"|allowed$|quantprecision$"
)
"""Keys whose value is 0 or 1, but for ``TEXTS``."""
TEXTS = ("optimization.disable_specified_optimizers",)


def session_options(settings: Settings) -> onnxruntime.SessionOptions:
    """What ``settings`` ask for, and nothing else.

    Raises ``EngineError`` for a precision, provider or option that this ONNX Runtime lacks.
    """
    import onnxruntime

    if settings.precision != "float32":
        raise EngineError(
            f"onnxruntime was asked for {settings.precision}",
            "float32: its CPU kernels follow the file's types",
        )
    provider = settings.provider or CPU
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise EngineError(
            f"provider {provider} is not in this onnxruntime",
            f"one of {', '.join(available)}",
            _install(provider),
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = settings.threads or this_machine().threads
    for key, value in settings.options.items():
        _set(options, key, value)
    if provider != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _install(provider: str) -> str:
    """What to install for it; empty where no package on PyPI has it."""
    package = ""
    with contextlib.suppress(InputError):  # an unknown name has none
        package = provider_of(provider).package
    other = package not in ("", "onnxruntime")
    return f"pip install {package} in the place of onnxruntime" if other else ""


def _set(options: onnxruntime.SessionOptions, key: str, value: str) -> None:
    """A dotted key is a session config entry, any other one an attribute of SessionOptions."""
    attributes = [name for name in dir(options) if _settable(options, name)]
    if "." in key:
        if key not in KEYS and not OF_PROVIDER.fullmatch(key) and not _is_newer():
            raise _unknown(key, (*KEYS, *attributes))
        if SWITCH.search(key) and key not in TEXTS:
            if value.lower() not in SWITCHES:
                raise EngineError(f"session option {key}={value}", "true or false")
            value = "01"[SWITCHES[value.lower()]]  # it takes any other word for one of them
        options.add_session_config_entry(key, value)
        return
    if key not in attributes:
        raise _unknown(key, (*attributes, *KEYS))
    old = getattr(options, key)
    try:
        if isinstance(old, bool):
            setattr(options, key, SWITCHES[value.lower()])
        elif isinstance(old, int):
            setattr(options, key, int(value))
        elif isinstance(old, str):
            setattr(options, key, value)
        else:
            setattr(options, key, _member(type(old), value))
    except (KeyError, TypeError, ValueError):
        told = {"bool": "true or false", "int": "a whole number"}.get(type(old).__name__, "")
        members = getattr(type(old), "__members__", {})
        raise EngineError(
            f"session option {key}={value}", told or f"one of {', '.join(members)}"
        ) from None


def _settable(options: onnxruntime.SessionOptions, name: str) -> bool:
    return not name.startswith("_") and not callable(getattr(options, name))


def _member(enum: type, value: str) -> object:
    """``ORT_PARALLEL`` or ``parallel``, ``ORT_ENABLE_ALL`` or ``all``. Raises ``KeyError``."""
    members: dict[str, object] = getattr(enum, "__members__", {})
    for name, member in members.items():
        short = name.removeprefix("ORT_").removeprefix("ENABLE_")  # DISABLE_ALL keeps both words
        if value.upper() in (name, short):
            return member
    raise KeyError(value)


def _is_newer() -> bool:
    import onnxruntime

    return tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) > KEYS_OF


def _unknown(key: str, known: Collection[str]) -> EngineError:
    near = nearest(key, known)
    told = ", ".join(near or sorted(name for name in known if "." not in name))
    return EngineError(
        f"onnxruntime has no session option '{key}'",
        f"one of {told}" + ("" if near else ", …"),
        "" if near else "see docs/providers.md",
    )
