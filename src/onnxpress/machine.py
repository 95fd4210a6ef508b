"""Facts about this machine: cores, affinity, container quota, instruction sets, memory."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from onnxpress.errors import InputError

ISA_OF_FLAG = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx_vnni": "AVX_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "avx512_fp16": "AVX512_FP16",
    "amx_int8": "AMX_INT8",
    "amx_bf16": "AMX_BF16",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "ARM_BF16",
    "sve": "SVE",
}
"""Linux CPU flag → the name that reports and bundles use, for what changes a kernel choice."""


MOST_THREADS_PER_CORE = 8
"""More threads than this for each hardware thread only take turns, and starting them takes long."""

INT8_DOT = ("AVX512_VNNI", "AVX_VNNI", "AMX_INT8", "DOTPROD", "I8MM")
"""The instruction sets that multiply and add int8 in 32 bits at once."""


@dataclass(frozen=True)
class Machine:
    """What this process may use.

    ``cores`` are physical, ``logical_cores`` hardware threads; ``affinity`` counts the ones this
    process may run on; ``quota`` is the container's CPU limit in cores (None: unlimited).
    """

    cpu: str
    architecture: str
    system: str
    cores: int
    logical_cores: int
    affinity: int
    quota: float | None
    memory_bytes: int
    isa: tuple[str, ...]

    @property
    def threads(self) -> int:
        """How many threads compute usefully here: physical cores within affinity and quota."""
        limit = self.quota if self.quota is not None else math.inf
        return max(1, math.floor(min(self.cores, self.affinity, max(limit, 1))))

    def limited(self, threads: int | None) -> Machine:
        """As if no more than so many cores were granted."""
        if threads is None:
            return self
        return replace(self, cores=min(self.cores, threads), affinity=min(self.affinity, threads))

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Numbers of threads that are worth trying, the usual one first.

        It is followed by its halves, down to 1, and by all hardware threads that may be used.
        """
        counts = [self.threads >> shift for shift in range(self.threads.bit_length())]
        most = math.floor(min(self.affinity, self.quota if self.quota else math.inf))
        return tuple(dict.fromkeys((*counts, max(most, self.threads))))

    @property
    def equal_parts(self) -> tuple[int, ...]:
        """Into how many equal parts the threads can be divided: 2 and more, up to one each."""
        return tuple(n for n in range(2, self.threads + 1) if self.threads % n == 0)

    @property
    def fast_int8(self) -> bool:
        """Whether the CPU multiplies int8 with one dot-product instruction."""
        return bool(set(INT8_DOT) & set(self.isa))

    @property
    def int8_isa(self) -> tuple[tuple[str, ...], ...]:
        """What int8 that pays off here needs elsewhere, as ``Form.requires_isa``."""
        return (INT8_DOT,) if self.fast_int8 else ()

    @property
    def saturates(self) -> bool:
        """Whether this CPU adds two products of int8 in 16 bits: x86 without a dot product."""
        return not self.fast_int8 and self.architecture not in ("arm64", "aarch64")

    @property
    def weight_bits(self) -> int:
        """The bits of int8 weights whose products never saturate, wherever they lie: 8 or 7.

        7 is ``reduce_range`` of ONNX Runtime's "Quantize ONNX Models".
        """
        return 7 if self.saturates else 8

    @property
    def fast_bfloat16(self) -> bool:
        """Whether the CPU multiplies bfloat16 natively."""
        return bool({"AVX512_BF16", "AMX_BF16", "ARM_BF16"} & set(self.isa))

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"isa": list(self.isa), "threads": self.threads}


@functools.cache
def this_machine() -> Machine:
    """Read once per process: ``/proc``, ``/sys/fs/cgroup`` (v2 and v1) and the affinity mask."""
    cpuinfo = _read(Path("/proc/cpuinfo"))
    logical = os.cpu_count() or 1
    return Machine(
        cpu=_cpu_name(cpuinfo),
        architecture=platform.machine(),
        system=platform.system(),
        cores=_physical_cores(cpuinfo) or logical,
        logical_cores=logical,
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical,
        quota=cpu_quota(Path("/")),
        memory_bytes=_memory_bytes(Path("/")),
        isa=_isa(cpuinfo),
    )


def cpu_quota(root: Path) -> float | None:
    """The cgroup CPU limit in cores below ``root``, the tightest of this process's ancestors.

    Follows the kernel's documents on ``cpu.max`` (v2) and ``cpu.cfs_quota_us`` (v1).
    """
    limits = []
    for folder in _cgroup_folders(root, "cpu"):
        period, quota = "", _read(folder / "cpu.max")
        if quota:
            quota, _, period = quota.partition(" ")
        else:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.strip().isdigit() and period.strip().isdigit():
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """This process's cgroup folder and its ancestors, for v2 and v1 mounts."""
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        below = mount / path.lstrip("/")
        while below != mount and mount in below.parents:
            folders.append(below)
            below = below.parent
        folders.append(mount)
    return folders or [root / "sys/fs/cgroup"]


def _memory_bytes(root: Path) -> int:
    found = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"))
    limits = [int(found[1]) * 1024] if found else []
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit():
                limits.append(int(text))
    return min(limits, default=0)


def _cpu_name(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _physical_cores(cpuinfo: str) -> int:
    packages = re.findall(
        r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$", cpuinfo, re.M | re.S
    )
    return len(set(packages))


def _isa(cpuinfo: str) -> tuple[str, ...]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    if platform.machine() in {"arm64", "aarch64"}:
        flags.add("asimd")
    return tuple(name for flag, name in ISA_OF_FLAG.items() if flag in flags)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def check_threads(threads: int | None, flag: str = "--threads ") -> None:
    """Raise ``InputError`` for a number that no engine could use well; None is for the machine."""
    most = MOST_THREADS_PER_CORE * max(this_machine().logical_cores, 1)
    if threads is not None and not 1 <= threads <= most:
        expected = "a number of at least 1" if threads < 1 else f"at most {most} on this machine"
        raise InputError(f"{flag}{threads}", expected)
