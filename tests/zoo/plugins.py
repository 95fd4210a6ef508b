"""Another package with plug-ins, as an installer leaves it on ``sys.path``."""

from __future__ import annotations

from pathlib import Path


def distribution(folder: Path, entry_points: str, **modules: str) -> Path:
    """A folder for ``sys.path``: a package ``plugpack`` and what an installer leaves beside it."""
    package, info = folder / "plugpack", folder / "plugpack-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugpack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder
