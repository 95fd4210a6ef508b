"""Limits of containers are found wherever they are set."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from onnxpress import machine
from onnxpress.machine import Machine, cpu_quota, this_machine


def files(tmp_path: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


V2 = {"proc/self/cgroup": "0::/system.slice/app.service\n"}
V1 = {
    "proc/self/cgroup": (
        "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    )
}


@pytest.mark.parametrize(
    ("contents", "quota"),
    [
        ({}, None),
        (V2, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (V2 | {"sys/fs/cgroup/system.slice/app.service/cpu.max": "250000 100000\n"}, 2.5),
        # The tightest ancestor decides.
        (
            V2
            | {
                "sys/fs/cgroup/system.slice/app.service/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        (
            V2
            | {
                "sys/fs/cgroup/system.slice/app.service/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            },
            0.5,
        ),
        # A cgroup namespace shows paths that lead above its own root.
        (
            {"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
            2.0,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        # Inside a container version 1 shows the container's own folder as the root.
        (
            V1
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            2.0,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        (V2 | {"sys/fs/cgroup/cpu.max": "nonsense"}, None),
    ],
)
def test_the_cpu_quota(contents: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    assert cpu_quota(files(tmp_path, contents)) == quota


@pytest.mark.parametrize(
    ("contents", "size"),
    [
        ({}, 0),
        ({"proc/meminfo": "MemTotal:  1000 kB\n"}, 1_024_000),
        (V2 | {"proc/meminfo": "MemTotal: 9 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 9216),
        (
            V2
            | {
                "proc/meminfo": "MemTotal: 9 kB\n",
                "sys/fs/cgroup/system.slice/memory.max": "4096\n",
            },
            4096,
        ),
        (
            V1
            | {
                "proc/meminfo": "MemTotal: 9 kB\n",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "5000\n",
            },
            5000,
        ),
    ],
)
def test_the_memory_limit(contents: dict[str, str], size: int, tmp_path: Path) -> None:
    assert machine._memory_bytes(files(tmp_path, contents)) == size


def with_limits(cores: int, affinity: int, quota: float | None) -> Machine:
    return Machine("cpu", "x86_64", "Linux", cores, 2 * cores, affinity, quota, 0, ())


@pytest.mark.parametrize(
    ("cores", "affinity", "quota", "threads"),
    [(8, 16, None, 8), (8, 3, None, 3), (8, 16, 2.5, 2), (8, 16, 0.3, 1), (1, 1, None, 1)],
)
def test_threads_fit_cores_affinity_and_quota(
    cores: int, affinity: int, quota: float | None, threads: int
) -> None:
    assert with_limits(cores, affinity, quota).threads == threads


CPUINFO = """processor : 0
model name : Some CPU @ 3 GHz
physical id : {package}
core id : {core}
flags : fpu avx2 fma avx512f avx512_vnni amx_bf16 unknown_flag

"""


def test_hyper_threads_count_once() -> None:
    pairs = [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0)]
    text = "".join(CPUINFO.format(package=package, core=core) for package, core in pairs)
    assert machine._physical_cores(text) == 3
    assert machine._cpu_name(text) == "Some CPU @ 3 GHz"


def test_instruction_sets_have_their_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    isa = machine._isa(CPUINFO)
    assert isa == ("AVX2", "FMA", "AVX512", "AVX512_VNNI", "AMX_BF16")
    facts = dataclasses.replace(with_limits(1, 1, None), isa=isa)
    assert facts.fast_int8
    assert facts.fast_bfloat16
    assert not with_limits(1, 1, None).fast_int8
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert machine._isa("Features\t: fp asimddp i8mm\n") == ("NEON", "DOTPROD", "I8MM")
    assert machine._isa("") == ("NEON",)


def test_this_machine_is_a_plausible_one() -> None:
    facts = this_machine()
    assert facts is this_machine()
    assert 1 <= facts.threads <= facts.logical_cores
    assert facts.affinity == len(os.sched_getaffinity(0))
    assert facts.memory_bytes > 1 << 28
    assert facts.cpu
    assert facts.to_dict()["threads"] == facts.threads
    assert isinstance(facts.to_dict()["isa"], list)


def test_what_int8_needs_elsewhere() -> None:
    """What pays off through a dot product needs one; what was made without runs anywhere."""
    old = dataclasses.replace(with_limits(1, 1, None), architecture="x86_64", isa=("AVX2",))
    new = dataclasses.replace(old, isa=("AVX2", "AVX512_VNNI"))
    arm = dataclasses.replace(old, architecture="aarch64", isa=("NEON",))
    assert [machine.saturates for machine in (old, new, arm)] == [True, False, False]
    assert [len(machine.int8_isa) for machine in (old, new, arm)] == [0, 1, 0]
