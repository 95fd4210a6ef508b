"""An ONNX model in another format, proven equal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.errors import InputError
from onnxpress.exporter import Exporter
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.verify import Verified, compare

ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Exported:
    """What was written; ``files`` is empty where the answers differ."""

    format: str
    files: tuple[Path, ...]
    size_bytes: int
    verified: Verified

    def to_dict(self) -> dict[str, object]:
        return {
            "format": self.format,
            "files": [str(path) for path in self.files],
            "size_bytes": self.size_bytes,
            "verified": self.verified.to_dict(),
        }


def export(model: Model, to: str, output: Path, batches: Callable[[], Iterable[Feeds]]) -> Exported:
    """Write ``model`` in format ``to`` and compare it with ONNX Runtime on the ONNX file.

    ``output`` is a file, or a folder to make where it lacks the format's suffix. Nothing is
    written where the answers differ. Raises ``PluginError`` for an unknown format, and as
    ``Exporter.write`` does.
    """
    exporter = registry.create(Exporter, "exporters", to)
    target = output if output.suffix == exporter.suffix else output / f"model{exporter.suffix}"
    if not target.parent.exists() and not target.parent.absolute().parent.is_dir():
        raise InputError(f"the folder of --output {output} does not exist", "an existing folder")
    if output.is_file() and output != target:
        raise InputError(f"--output {output} is a file", f"a {exporter.suffix} file, or a folder")
    first = registry.create(Engine, "engines", ENGINE)
    second = registry.create(Engine, "engines", exporter.engine)
    require(first, ENGINE)
    require(second, exporter.engine)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        source = model.clone().save(Path(folder) / "model.onnx")
        made = exporter.write(source, Path(folder) / target.name)
        with (
            first.open(source, Settings(ENGINE, custom_ops=model.custom_ops)) as one,
            second.open(made[0], Settings(exporter.engine, custom_ops=model.custom_ops)) as two,
        ):
            verified = compare(one, two, batches())
        if not verified.ok:
            return Exported(to, (), 0, verified)
        size = sum(path.stat().st_size for path in made)
        target.parent.mkdir(exist_ok=True)
        files = tuple(target.with_name(path.name) for path in made)
        for path, final in reversed(list(zip(made, files, strict=True))):
            temporary = final.with_name(f".{final.name}.tmp")
            shutil.copyfile(path, temporary)
            temporary.replace(final)
    return Exported(to, files, size, verified)
