"""What a user asks of whatever runs a file: threads, a provider, session options, kept settings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.errors import InputError
from onnxpress.machine import check_threads
from onnxpress.provider import parse_provider
from onnxpress.settings import Settings

DEFAULT_ENGINE = "onnxruntime"
THREADS = {"intra_op_num_threads", "inter_op_num_threads", "INFERENCE_NUM_THREADS", "NUM_STREAMS"}
"""Options of engines that start threads: a million of them would stop the machine."""


@dataclass(frozen=True)
class Wishes:
    """What goes over the settings that something would run with anyway.

    ``engine`` is the only one to use, None for any. All but ``threads`` is for the engine ``of``.
    ``kept`` are settings that an earlier ``tune`` wrote.
    """

    engine: str | None = None
    threads: int | None = None
    of: str = DEFAULT_ENGINE
    provider: str = ""
    provider_options: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    kept: Settings | None = None

    @property
    def settings(self) -> Settings:
        """Of the engine that is asked for, or of the default one."""
        return self.over(Settings(self.of))

    def over(self, settings: Settings) -> Settings:
        """``settings`` with what was asked of their engine; options are added."""
        if settings.engine != self.of:
            return replace(settings, threads=self.threads or settings.threads)
        kept = self.kept or settings
        provider_options = {**settings.provider_options, **kept.provider_options}
        return replace(
            settings,
            threads=self.threads or kept.threads or settings.threads,
            precision=kept.precision,
            requests=kept.requests,
            provider=self.provider or kept.provider,
            provider_options={**provider_options, **self.provider_options},
            options={**settings.options, **kept.options, **self.options},
        )


def wishes_of(
    engine: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
) -> Wishes:
    """Flags as wishes, each checked before there is anything to run.

    ``provider`` is ``NAME`` or ``NAME:key=value,…`` of ONNX Runtime, or a device of OpenVINO.
    ``session`` are options of the engine, ``KEY=VALUE`` each; ``settings`` is a file that ``tune``
    wrote. Raises ``InputError`` or ``EngineError`` for what the engine does not have.
    """
    check_threads(threads)
    kept = None if settings is None else read_settings(Path(settings))
    if kept is not None and engine not in (None, kept.engine):
        raise InputError(
            f"--engine {engine} with {settings}, which is for {kept.engine}", "one engine"
        )
    engine = engine or (kept.engine if kept else None)
    of = engine or DEFAULT_ENGINE
    if engine is not None:
        registry.get("engines", engine)  # an unknown name is said before any work
    options = dict(session) if isinstance(session, Mapping) else parse_options(tuple(session))
    check_counts(options, "--session")
    if kept is not None:
        check_kept(kept)
    name, provider_options = "", dict[str, str]()
    if provider:
        openvino = of == "openvino"  # its devices are AUTO:GPU,CPU or GPU.1
        name, provider_options = (provider, {}) if openvino else parse_provider(provider)
    wishes = Wishes(engine, threads, of, name, provider_options, options, kept)
    if name or options or kept:
        plugin = registry.create(Engine, "engines", of)
        require(plugin, of)
        plugin.check(wishes.settings)
    return wishes


def check_counts(options: Mapping[str, str], whence: str) -> None:
    """Raise ``InputError`` for options that ask for more threads than ``--threads`` may, or fewer.

    0 is for the engine's own choice; what is no number the engine refuses.
    """
    for key in sorted(THREADS & set(options)):
        with contextlib.suppress(ValueError):
            count = int(options[key])
            if count:
                check_threads(count, f"{whence} {key}=")


def check_kept(settings: Settings) -> None:
    """Raise ``InputError`` for settings of a file that start more threads than make sense here."""
    check_threads(settings.threads, "settings with threads=")
    check_threads(settings.requests, "settings with requests=")
    check_counts(settings.options, "settings with")


def read_settings(path: Path) -> Settings:
    """Of a file that ``tune`` wrote, or of one with the settings alone. Raises ``InputError``."""
    expected = "a file that 'onnxpress tune -o' wrote"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Settings.from_dict(data.get("best", data))
    except OSError as error:
        raise InputError(f"--settings {path}: {error.strerror}", expected) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--settings {path} holds no settings", expected) from error


def parse_options(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("key=value", …)`` as a dict. Raises ``InputError`` for a pair without ``=``."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"--session {pair}", "KEY=VALUE")
        options[key.strip()] = value.strip()
    return options
