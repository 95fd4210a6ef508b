"""Keras models as origins: files and live models of the three kinds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpress.errors import InputError, SourceError
from onnxpress.signature import TensorSpec
from onnxpress.source import OpenOptions
from onnxpress.sources._tensorflow import keras_files
from onnxpress.sources._tensorflow.digests import of_arrays, of_files
from onnxpress.sources._tensorflow.framework import keras, quiet, reason, told
from onnxpress.sources._tensorflow.origin import Kind, TensorFlowOrigin
from onnxpress.sources._tensorflow.program import Program, flatten, input_spec

KIND = Kind("keras", "Keras")


def open_origin(ref: object, options: OpenOptions) -> TensorFlowOrigin:
    """A file is looked at now and loaded when it is first needed; a live model is there."""
    if isinstance(ref, str | Path):
        path = Path(ref)
        if path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
            raise InputError(f"keras:{ref}", "a .keras or .h5 file, such as keras:m.keras")
        keras_files.check(path, options.trust)
        return TensorFlowOrigin(
            KIND,
            functools.partial(_load, path, options),
            functools.partial(of_files, [path], str(options.checkpoint or "")),
            options,
        )
    if not isinstance(ref, keras().Model):
        raise InputError(f"a {type(ref).__name__}", "a keras.Model")
    if options.checkpoint is not None:
        _load_weights(ref, options.checkpoint)
    program = _program(ref, options.inputs)
    return TensorFlowOrigin(KIND, lambda: program, lambda _: _live_digest(ref), options)


def _load(path: Path, options: OpenOptions) -> Program:
    """Read the whole model. Raises ``SourceError`` that names the layer or class in the way."""
    framework = keras()
    try:
        with quiet():
            model = framework.saving.load_model(path, compile=False, safe_mode=not options.trust)
    except Exception as error:
        raise _unreadable(path, error) from error
    if options.checkpoint is not None:
        _load_weights(model, options.checkpoint)
    return _program(model, options.inputs)


def _unreadable(path: Path, error: Exception) -> SourceError:
    unknown = re.search(
        r"Could not locate (?:class|function) '([^']+)'|Unknown (?:layer|object|\w+ function): "
        r"'?([\w>]+)|class (?:with name )?[`']([\w.]+)[`'] (?:is|could) not",
        str(error),
    )
    if unknown:
        name = next(filter(None, unknown.groups()))
        return SourceError(
            f"{path} uses the custom class or function '{name}'",
            "one that this process knows",
            "load it in Python where it is registered and hand over the model, or save it with "
            "model.export(FOLDER)",
        )
    return SourceError(
        f"{path} cannot be loaded as a Keras model ({reason(error)})", "a whole .keras or .h5 file"
    )


def _load_weights(model: Any, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"--checkpoint {path} does not exist", "a .weights.h5 file")
    with told(f"--checkpoint {path} does not fit {model.name}", "its own weights"):
        model.load_weights(path)


def _program(model: Any, given: tuple[TensorSpec, ...]) -> Program:
    """The model's call in inference mode, with its own names."""
    if not model.built:
        raise InputError(
            f"the model {model.name} does not know its inputs yet",
            "a model that was built",
            "call it once on data, or begin it with keras.Input(…)",
        )
    name = f"{type(model).__name__} '{model.name}'"
    with contextlib.suppress(AttributeError):  # subclassed models have none
        if model.inputs:
            return _symbolic(model, name)
    return _subclassed(model, name, given)


def _symbolic(model: Any, name: str) -> Program:
    """A Functional or Sequential model: its input tensors and output layers have names."""
    framework = keras()
    for tensor in model.inputs:
        for form in ("sparse", "ragged"):
            if getattr(tensor, form, False):
                raise SourceError(
                    f"input '{tensor.name}' is {form}", "dense inputs", "pad or densify it before"
                )
    lone = len(model.inputs) == 1
    specs = tuple(input_spec(_layer(t), t.shape, t.dtype, lone) for t in model.inputs)
    structure = model.inputs[0] if isinstance(model, framework.Sequential) else model.input
    keyed = framework.tree.map_structure(_layer, structure)
    layers = [_layer(tensor) for tensor in model.outputs]
    plain = not isinstance(model.output if hasattr(model, "output") else None, Mapping)

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        outputs = model(
            framework.tree.map_structure(lambda key: tensors[key], keyed), training=False
        )
        return flatten(outputs, tensors, layers if plain else None)

    return Program(name, specs, call, _vocabularies(model, specs), tuple(model.weights))


def _layer(tensor: Any) -> str:
    """The name of the layer that makes a symbolic tensor; an input's own layer too."""
    return str(tensor._keras_history.operation.name)


def _subclassed(model: Any, name: str, given: tuple[TensorSpec, ...]) -> Program:
    """A model with a ``call`` of its own: it keeps the shapes of the first argument alone.

    ``given`` tells the inputs where that is not enough: one for each argument of ``call``.
    """
    framework = keras()
    found: list[tuple[str, tuple[int | None, ...]]] = []
    shapes = dict(getattr(model, "_build_shapes_dict", None) or {})
    arguments = [
        parameter.name
        for parameter in inspect.signature(model.call).parameters.values()
        if parameter.name not in ("training", "mask") and parameter.default is parameter.empty
    ]
    keyed: dict[str, Any]
    if len(arguments) == 1 and len(shapes) == 1:
        keyed = {arguments[0]: _keys(next(iter(shapes.values())), arguments[0], found)}
        types = {spec.name: spec.dtype for spec in given}
        lone = len(found) == 1
        specs = tuple(
            input_spec(key, (None, *shape[1:]), types.get(key, model.input_dtype), lone)
            for key, shape in found
        )
    elif {spec.name for spec in given} >= set(arguments):
        specs, keyed = given, {spec.name: spec.name for spec in given}
    else:
        raise InputError(
            f"{name} does not tell what it takes: {', '.join(arguments)}",
            "its inputs",
            "give --input NAME:DTYPE[batch,…] for each, or call a model of one input once on data",
        )

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        nested = framework.tree.map_structure(lambda key: tensors[key], keyed)
        return flatten(model(**nested, training=False), tensors)

    return Program(name, specs, call, _vocabularies(model, specs), tuple(model.weights))


def _keys(value: Any, key: str, found: list[tuple[str, tuple[int | None, ...]]]) -> Any:
    """The names of the tensors in the place of their shapes; ``found`` gets both."""
    if isinstance(value, Mapping):
        return {inner: _keys(shape, str(inner), found) for inner, shape in value.items()}
    if all(isinstance(dim, int | None) for dim in value):
        found.append((key, tuple(value)))
        return key
    return [_keys(shape, f"{key}_{index}", found) for index, shape in enumerate(value)]


def _vocabularies(model: Any, specs: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Integers that every Embedding of the model knows: the least of their table sizes."""
    sizes = [
        layer.input_dim
        for layer in model._flatten_layers()
        if isinstance(layer, keras().layers.Embedding)
    ]
    return {spec.name: min(sizes) for spec in specs} if sizes else {}


def _live_digest(model: Any) -> str:
    """SHA-256 of structure, weights and the source of every layer's class."""
    parts = []
    for cls in sorted({type(layer) for layer in model._flatten_layers()}, key=str):
        with contextlib.suppress(OSError, TypeError):  # classes made in a shell have no source
            parts.append(inspect.getsource(cls))
    with quiet():
        with contextlib.suppress(NotImplementedError):  # subclassed models may have no config
            parts.append(model.to_json())
        weights = {f"{i} {weight.path}": weight.numpy() for i, weight in enumerate(model.weights)}
    return of_arrays(hashlib.sha256("\n".join(parts).encode()), weights)
