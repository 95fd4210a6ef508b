"""SavedModels and ``tf.function`` objects as origins."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpress.errors import InputError, SourceError
from onnxpress.source import OpenOptions
from onnxpress.sources._tensorflow.digests import of_arrays, of_files
from onnxpress.sources._tensorflow.framework import quiet, reason, tensorflow
from onnxpress.sources._tensorflow.origin import Kind, TensorFlowOrigin
from onnxpress.sources._tensorflow.program import Program, flatten, input_spec

KIND = Kind("tensorflow", "TensorFlow")
DEFAULT_SIGNATURE = "serving_default"
GRAPH_FILE = "saved_model.pb"
UNSAFE = {
    *("ReadFile", "WriteFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2"),
    *("PyFunc", "PyFuncStateless", "EagerPyFunc", "LoadLibrary"),
}
"""Operators that reach beyond the model: into files, or into Python."""


def open_origin(ref: object, options: OpenOptions) -> TensorFlowOrigin:
    """A folder is looked at now and loaded when it is first needed."""
    if options.checkpoint is not None:
        raise InputError("--checkpoint with a TensorFlow model", "the model alone")
    if not isinstance(ref, str | Path):
        program, graph = _function(ref, options)
        return TensorFlowOrigin(
            KIND, lambda: program, lambda _: _graph_digest(graph, program), options
        )
    where, _, signature = str(ref).partition("#")
    folder = Path(where)
    if not where or not (folder / GRAPH_FILE).is_file():
        raise InputError(
            f"{where or 'the reference'} is no SavedModel", f"a folder with {GRAPH_FILE}"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return TensorFlowOrigin(
        KIND,
        functools.partial(_load, folder, signature or DEFAULT_SIGNATURE, options.trust),
        functools.partial(of_files, files, signature),
        options,
    )


def _load(folder: Path, wanted: str, trust: bool) -> Program:
    tf = tensorflow()
    proto = _read(folder)
    if not trust:
        _refuse_unsafe(folder, proto)
    try:
        with quiet():
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        raise SourceError(
            f"{folder} cannot be loaded as a SavedModel ({reason(error)})", "a whole folder"
        ) from error
    known = list(loaded.signatures)
    if wanted not in known:
        raise SourceError(
            f"{folder} has no signature '{wanted}'",
            f"one of {', '.join(known)}" if known else "a SavedModel with signatures",
            f"give {folder}#{known[0]}" if known else "save it with signatures=…",
        )
    function = loaded.signatures[wanted]
    # By name: TensorFlow's own order differs from process to process.
    inputs = dict(sorted(function.structured_input_signature[1].items()))
    lone = len(inputs) == 1
    specs = tuple(input_spec(key, spec.shape, spec.dtype, lone) for key, spec in inputs.items())

    def call(tensors: Mapping[str, Any], _alive: Any = loaded) -> dict[str, Any]:
        return flatten(dict(sorted(function(**tensors).items())), tensors)

    return Program(f"the signature '{wanted}'", specs, call, {}, tuple(function.variables))


def _read(folder: Path) -> Any:
    """The folder's ``SavedModel`` message."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString((folder / GRAPH_FILE).read_bytes())
    except DecodeError as error:
        raise SourceError(
            f"{folder} cannot be loaded as a SavedModel ({reason(error)})", f"a whole {GRAPH_FILE}"
        ) from error
    if not proto.meta_graphs:
        raise SourceError(f"{folder / GRAPH_FILE} is empty or damaged", f"a whole {GRAPH_FILE}")
    return proto


def _refuse_unsafe(folder: Path, proto: Any) -> None:
    """Raise ``InputError`` for a graph that would reach files or Python, before it is loaded."""
    for meta in proto.meta_graphs:
        graph = meta.graph_def
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        for node in nodes:
            if node.op in UNSAFE:
                raise InputError(
                    f"{folder} holds the operator {node.op} ({node.name}), which reaches beyond "
                    "the model",
                    "a model that only computes",
                    "give --trust if you trust who made it",
                )


def _function(ref: Any, options: OpenOptions) -> tuple[Program, Any]:
    """A live function and its graph. Without an input signature, ``--input`` gives one."""
    tf = tensorflow()
    name = str(getattr(ref, "__name__", "") or getattr(ref, "name", "") or "the function")
    concrete = ref
    if not isinstance(ref, tf.types.experimental.ConcreteFunction):
        given = [
            tf.TensorSpec(
                None if s.shape is None else [d if isinstance(d, int) else None for d in s.shape],
                getattr(tf, s.dtype), name=s.name,
            )
            for s in options.inputs
        ]  # fmt: skip
        specs = given if getattr(ref, "input_signature", None) is None else []
        try:
            with quiet():
                concrete = ref.get_concrete_function(*specs)
        except Exception as error:
            raise InputError(
                f"tf.function {name} cannot be traced ({reason(error)})",
                "a tf.function with an input_signature, or a concrete function",
                "or inputs that say what it takes",
            ) from error
    names, specs, keyed = _arguments(concrete)
    arguments, keywords = keyed
    lone = len(names) == 1
    inputs = tuple(
        input_spec(key, spec.shape, spec.dtype, lone)
        for key, spec in zip(names, specs, strict=True)
    )

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        pick = functools.partial(_picked, tensors)
        return flatten(
            concrete(*[pick(item) for item in arguments],
                     **{key: pick(item) for key, item in keywords.items()}),
            tensors,
        )  # fmt: skip

    return Program(name, inputs, call, {}, tuple(concrete.variables)), concrete.graph


class _Place:
    """Where the input of that name goes in a nest of arguments."""

    def __init__(self, name: str) -> None:
        self.name = name


def _arguments(concrete: Any) -> tuple[list[str], list[Any], tuple[list[Any], dict[str, Any]]]:
    """Names and specs of the tensors that a concrete function takes, and its arguments' nest."""
    tf = tensorflow()
    names: list[str] = []
    specs: list[Any] = []

    def placed(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {key: placed(item, str(key)) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(placed(item, f"{path}_{i}") for i, item in enumerate(value))
        if isinstance(value, tf.RaggedTensorSpec | tf.SparseTensorSpec):
            form = type(value).__name__.removesuffix("TensorSpec").lower()
            raise SourceError(f"input '{path}' is {form}", "dense inputs")
        if not isinstance(value, tf.TensorSpec):
            return value
        name = str(value.name or path).replace(":", "_")
        while name in names:
            name = f"{name}_{len(names)}"
        names.append(name)
        specs.append(value)
        return _Place(name)

    arguments, keywords = concrete.structured_input_signature
    nest = (
        [placed(item, f"input_{index}") for index, item in enumerate(arguments)],
        {key: placed(item, key) for key, item in keywords.items()},
    )
    return names, specs, nest


def _picked(tensors: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, _Place):
        return tensors[value.name]
    if isinstance(value, Mapping):
        return {key: _picked(tensors, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_picked(tensors, item) for item in value)
    return value


def _graph_digest(graph: Any, program: Program) -> str:
    """SHA-256 of the operators, their attributes and the variables' values."""
    text = str(graph.as_graph_def())
    # Functions get a number each time they are traced.
    stable = re.sub(r"__(?:inference|forward|backward)_(\w+?)_\d+", r"\1", text)
    values = {f"{i} {v.name}": v.numpy() for i, v in enumerate(program.weights)}
    return of_arrays(hashlib.sha256(stable.encode()), values)
