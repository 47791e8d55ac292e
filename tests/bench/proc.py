"""What Linux says of processes and of the machine (proc(5)). Parsing is pure; reading takes what is there now."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Stat:
    """Of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    cpu_ticks: int  # utime + stime

    @staticmethod
    def parse(text: str) -> Stat:
        """Raises ValueError. The name, in parentheses, may hold anything, parentheses and spaces too."""
        pid, _, rest = text.partition(" ")
        fields = rest.rpartition(")")[2].split()
        if len(fields) < 13:
            raise ValueError(f"{text!r} is not a line of /proc/PID/stat")
        return Stat(int(pid), int(fields[1]), int(fields[2]), int(fields[11]) + int(fields[12]))


def field_bytes(text: str, name: str) -> int:
    """A size in /proc/PID/status or /proc/meminfo (`VmHWM:    1234 kB`), in bytes. Raises ValueError without it."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            number, unit = value.split()
            if unit != "kB":
                raise ValueError(f"{line!r}: expected kB")
            return int(number) * KIB
    raise ValueError(f"no field {name}")


def cpu_model(text: str) -> str:
    """The processor's name in /proc/cpuinfo; on machines that do not say it, 'unknown'."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Processor", "cpu model"):
            return value.strip()
    return "unknown"


@dataclass(frozen=True, slots=True)
class Used:
    """What a process group has used so far."""

    cpu_s: float
    peak_bytes: int  # VmHWM of its largest process: a function's worker
    now_bytes: int  # VmRSS of that process


def of_group(leader: int) -> Used:
    """Raises ProcessLookupError when nobody of the group is left."""
    stats = [stat for stat in _all() if stat.group == leader]
    sizes = [size for stat in stats if (size := _sizes(stat.pid))]
    if not sizes:
        raise ProcessLookupError(f"no process of group {leader}")
    peak, now = max(sizes)
    return Used(sum(stat.cpu_ticks for stat in stats) / os.sysconf("SC_CLK_TCK"), peak, now)


def _all() -> Iterator[Stat]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                yield Stat.parse((folder / "stat").read_text())
            except OSError:
                continue  # it has ended meanwhile


def _sizes(pid: int) -> tuple[int, int] | None:
    try:
        status = (PROC / str(pid) / "status").read_text()
        return field_bytes(status, "VmHWM"), field_bytes(status, "VmRSS")
    except (OSError, ValueError):
        return None  # it has ended, or is ending and has no memory any more


@dataclass(frozen=True, slots=True)
class Machine:
    cores: int
    memory_bytes: int
    cpu: str
    python: str
    system: str


def machine() -> Machine:
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=field_bytes((PROC / "meminfo").read_text(), "MemTotal"),
        cpu=cpu_model((PROC / "cpuinfo").read_text()),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
    )
