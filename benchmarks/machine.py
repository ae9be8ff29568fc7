"""The machine: its description, its current speed, and the resources that this process uses."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

__all__ = [
    "allocated_bytes",
    "anonymous_bytes",
    "describe",
    "package_versions",
    "peak_bytes",
    "probe",
    "written_bytes",
]

_PACKAGES = ("beluga-graph", "lmdb", "msgpack", "pydantic", "rich", "matplotlib")


def describe(data: Path) -> dict[str, object]:
    """Return a description of the machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "data": str(data),
        "data_file_system": _file_system(data),
    }


def package_versions() -> dict[str, str | None]:
    """Return the installed versions of packages that affect the figures; `None` for a missing package."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def probe(data: Path) -> dict[str, float]:
    """Measure the machine now: median fdatasync of 200 bytes, a fixed loop of the CPU, and the load."""
    file, path = tempfile.mkstemp(dir=data)
    times = []
    try:
        for _ in range(20):
            os.write(file, b"x" * 200)
            began = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - began)
    finally:
        os.close(file)
        Path(path).unlink()
    began, total = time.perf_counter(), 0
    for number in range(300_000):
        total += number
    loop = time.perf_counter() - began
    return {
        "fdatasync_us": round(statistics.median(times) * 1e6, 1),
        "loop_ms": round(loop * 1e3, 2),
        "load": round(os.getloadavg()[0], 2),
    }


def allocated_bytes(folder: Path) -> int:
    """Return the bytes of blocks that a folder's files use. LMDB's file is sparse: its length means nothing."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def written_bytes() -> int:
    """Return the bytes that this process has written to block devices; 0 if the system does not report it."""
    return _proc_field("/proc/self/io", "write_bytes:")


def anonymous_bytes() -> int:
    """Return this process's anonymous memory, which does not include the file that LMDB maps."""
    return _proc_field("/proc/self/smaps_rollup", "Anonymous:") * 1024


def peak_bytes() -> int:
    """Return the highest resident size of this process so far."""
    return _proc_field("/proc/self/status", "VmHWM:") * 1024


def _proc_field(path: str, field: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(folder: Path) -> str:
    """Return the type of the file system under a folder: figures on tmpfs say nothing about disks."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    within = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(within, key=lambda mount: len(mount[0]))[1] if within else "unknown"
