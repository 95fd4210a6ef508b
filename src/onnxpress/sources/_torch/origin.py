"""A PyTorch module as an origin."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from onnxpress.engine import Executed, Session
from onnxpress.errors import InputError, MissingExtra, SourceError
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Exported, ExportOptions, OpenOptions, Origin
from onnxpress.sources._torch.example import Example, example_of, flatten
from onnxpress.sources._torch.factory import factory_of, shown, user_code
from onnxpress.sources._torch.operators import Translations, translations_of
from onnxpress.sources._torch.saved import open_saved

PARALLEL = "module."
"""What DataParallel puts in front of every key."""

MISFITS = 5
"""How many keys of a checkpoint that does not fit are named."""


def open_origin(ref: object, options: OpenOptions) -> TorchOrigin:
    """Call the factory that ``ref`` names, read the file, or take the module that it is."""
    module, example = ref if isinstance(ref, tuple) else (ref, None)
    if isinstance(module, torch.nn.Module):
        return TorchOrigin(module, example, options, "", translations_of(type(module).__module__))
    if Path(str(ref)).suffix and ":" not in Path(str(ref)).suffix:
        saved = open_saved(Path(str(ref)), trust=options.trust)
        return TorchOrigin(saved.module, saved.example, options, saved.digest)
    factory, code = factory_of(str(ref))
    _check_takes_nothing(str(ref), factory)
    with user_code(str(ref)):
        made = factory()
    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise SourceError(
            f"{ref} returned {shown(made)}", "a torch.nn.Module, or (module, example_inputs)"
        )
    translations = translations_of(getattr(factory, "__module__", ""))
    return TorchOrigin(module, example, options, code, translations)


def _check_takes_nothing(ref: str, factory: Callable[[], object]) -> None:
    with contextlib.suppress(ValueError):  # some callables have no signature to read
        signature = inspect.signature(factory)
        try:
            signature.bind()
        except TypeError as error:
            raise SourceError(
                f"{ref} takes {signature}",
                "a factory that is called without arguments",
                "wrap it in a function that gives them",
            ) from error


class TorchOrigin(Origin):
    """A module in evaluation mode. ``session`` is PyTorch eager under ``inference_mode``."""

    kind = "torch"
    baseline = "PyTorch eager"
    compiler = "PyTorch compiled"

    def __init__(
        self,
        module: torch.nn.Module,
        example: object,
        options: OpenOptions,
        code: str,
        translations: Translations | None = None,
    ) -> None:
        """``translations`` give operators of the user's own as ONNX functions."""
        self._module, self._translations = module, translations
        with contextlib.suppress(NotImplementedError):  # exported programs are what they are
            module.eval()
        self._code = code
        if options.checkpoint is not None:
            _load_checkpoint(self._module, options.checkpoint)
        self._given = example_of(self._module, example, options)
        self._example = self._given.doubled(self._module)
        told = f"{getattr(module, 'inner_class', type(module).__name__)}.forward on {self._example}"
        copy = self._example.copied()
        with user_code(told), torch.inference_mode():
            self._outputs = flatten(copy.call(self._module), copy.tensors)
        self._writes = any(
            not torch.equal(tensor, copy.tensors[name])
            for name, tensor in self._example.tensors.items()
        )

    @property
    def example(self) -> Feeds:
        return {
            name: tensor.detach().cpu().numpy() for name, tensor in self._example.tensors.items()
        }

    def session(self, threads: int | None = None) -> Session:
        if threads:
            torch.set_num_threads(threads)
        return _TorchSession(self._module, self._example, self._outputs, self._writes)

    def compiled_session(self, threads: int | None = None) -> Session:
        from onnxpress.sources._torch.compiled import compiled

        if threads:
            torch.set_num_threads(threads)
        module = compiled(self._module, self._example)
        return _TorchSession(module, self._example, self._outputs, self._writes, "compiled")

    def export(self, options: ExportOptions) -> Exported:
        from onnxpress.sources._torch.export import export

        outputs, translations = tuple(self._outputs), self._translations
        return export(
            self._module,
            self._example,
            outputs,
            options,
            translations=translations,
            given=self._given,
        )

    def fingerprint(self) -> str:
        """SHA-256 of weights, buffers, structure and the source of every module class."""
        digest = hashlib.sha256(f"{self._code}\n{self._module}\n{torch.__version__}".encode())
        for cls in sorted({type(module) for module in self._module.modules()}, key=str):
            with contextlib.suppress(OSError, TypeError):  # classes made in a shell have no source
                digest.update(inspect.getsource(cls).encode())
        # The state lacks buffers that are not saved, and they too decide the outputs.
        tensors = {**dict(self._module.named_buffers()), **self._module.state_dict()}
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            if isinstance(tensor, torch.Tensor):
                flat = tensor.detach().contiguous().cpu().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()


class _TorchSession(Session):
    """The module itself. The number of threads is PyTorch's global one."""

    def __init__(
        self,
        module: torch.nn.Module,
        example: Example,
        outputs: Mapping[str, torch.Tensor],
        writes: bool,
        mode: str = "eager",
    ) -> None:
        """``writes`` tells whether the module writes into its inputs."""
        super().__init__()
        self._mode = mode
        self._module, self._example, self._writes = module, example, writes
        self.signature = Signature(
            tuple(_free(name, tensor) for name, tensor in example.tensors.items()),
            tuple(_free(name, tensor) for name, tensor in outputs.items()),
        )

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        tensors = {name: torch.from_numpy(self._lent(array)) for name, array in feeds.items()}
        with user_code("the model"), torch.inference_mode():
            outputs = flatten(self._example.call(self._module, tensors), feeds)
            return {name: tensor.detach().cpu().numpy().copy() for name, tensor in outputs.items()}

    def _lent(self, array: np.ndarray) -> np.ndarray:
        """The caller's own array, or a copy where the module would write into it."""
        if self._writes or not array.flags.writeable:
            return np.array(array, order="C")
        return np.asarray(array, order="C")

    def executed(self) -> tuple[Executed, ...]:
        """One for the whole module: the type of its first floating-point weight."""
        types = [p.dtype for p in self._module.parameters() if p.dtype.is_floating_point]
        precision = str(types[0]).removeprefix("torch.") if types else "unknown"
        return (Executed(type(self._module).__name__, self._mode, precision),)


def _free(name: str, tensor: torch.Tensor) -> TensorSpec:
    """Eager PyTorch takes any size, so every dimension is free."""
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), ("?",) * tensor.dim())


def _load_checkpoint(module: torch.nn.Module, path: Path) -> None:
    """Read weights only: no code in the file is run."""
    if not path.is_file():
        raise InputError(f"--checkpoint {path} does not exist", "a .pt, .pth or .safetensors file")
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise MissingExtra.of("safetensors", "torch", "reads .safetensors") from None
    try:
        state: object = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise SourceError(
            f"--checkpoint {path} cannot be read as weights ({_unread(error)})",
            "a state_dict saved with torch.save or safetensors",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise SourceError(f"--checkpoint {path} holds {shown(state)}", "a state_dict")
    if state and all(str(key).startswith(PARALLEL) for key in state):
        bare = {str(key).removeprefix(PARALLEL): value for key, value in state.items()}
        if bare.keys() == module.state_dict().keys():
            state = bare
    state = {str(key): value for key, value in state.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise SourceError(
            f"--checkpoint {path} does not fit the model ({_misfit(module, state)})",
            "its state_dict",
        ) from error


def _unread(error: Exception) -> str:
    """The one line of PyTorch's page that tells what the file holds."""
    text = str(error).strip() or type(error).__name__
    strange = re.search(r"GLOBAL (\S+) was not an allowed", text)
    if strange:
        return f"it holds a {strange[1]}"
    inner = re.search(r"WeightsUnpickler error: (.+)", text)
    return (inner[1] if inner else text.splitlines()[0])[:200]


def _misfit(module: torch.nn.Module, state: Mapping[str, object]) -> str:
    """The first five keys that are missing, unexpected, or of another shape."""
    own = module.state_dict()
    shaped = [
        f"{key} {list(state[key].shape)} for {list(own[key].shape)}"  # type: ignore[attr-defined]  # see the filter
        for key in own
        if key in state and getattr(state[key], "shape", None) != own[key].shape
    ]
    told = {
        "missing": [key for key in own if key not in state],
        "unexpected": [str(key) for key in state if key not in own],
        "of another shape": shaped,
    }
    return "; ".join(
        f"{len(keys)} {what}: {', '.join(keys[:MISFITS])}{', …' if len(keys) > MISFITS else ''}"
        for what, keys in told.items()
        if keys
    )
