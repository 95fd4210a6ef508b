"""Where and with what something was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from onnxpress.machine import this_machine

PACKAGES = ("onnxpress", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "numpy")


def environment() -> dict[str, object]:
    """Facts that decide a time; nothing is imported for it, and no path or host name is told.

    ``cpu_mhz`` is the first core's frequency now, ``governor`` how the system sets it and
    ``load_average`` the number of running threads over the last minute, each None where the
    system does not tell.
    """
    return {
        "machine": this_machine().to_dict(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        "cpu_mhz": cpu_mhz(Path("/")),
        "governor": _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None,
        "load_average": load_average(),
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Package → version, of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_mhz(root: Path) -> float | None:
    """The first core's frequency in MHz, from ``/sys`` or ``/proc/cpuinfo`` below ``root``."""
    khz = _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if khz.isdigit():
        return int(khz) / 1000
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return float(found[1]) if found else None


def load_average() -> float | None:
    """Over the last minute, of the whole machine; None on Windows."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
