"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def zoo_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``zoo_model(name)``: the path of a model of the zoo, exported once a session."""
    import zoo

    folder = tmp_path_factory.mktemp("zoo")
    return lambda name: zoo.build(name, folder)
