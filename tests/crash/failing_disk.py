"""A disk that fails a write when a test requests it: a library that a child process loads in front of the C library."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["build", "environment", "fail"]

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/types.h>

/* The file that $FAULT names holds "what count": fail the next so many writes of meta pages, or syncs, with EIO. */
static int fails(const char *what) {
    const char *path = getenv("FAULT");
    FILE *file = path ? fopen(path, "r") : NULL;
    char asked[16] = "";
    int count = 0;
    if (!file) return 0;
    if (fscanf(file, "%15s %d", asked, &count) != 2) count = 0;
    fclose(file);
    if (strcmp(asked, what) != 0 || count <= 0) return 0;
    if (!(file = fopen(path, "w"))) return 0;
    fprintf(file, "%s %d", asked, count - 1);
    fclose(file);
    errno = EIO;
    return 1;
}

static int is_meta(size_t count, off64_t offset) { return count < 1024 && offset < 8192; }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return is_meta(count, offset) && fails("meta") ? -1 : real(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite64(fd, bytes, count, offset);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return fails("sync") ? -1 : real(fd);
}
"""


def build(folder: Path) -> Path:
    """Compile the library. Without a compiler the test is skipped, or fails if `CI` is set."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        assert not os.environ.get("CI"), "the gate needs a C compiler"
        import pytest  # noqa: PLC0415

        pytest.skip("there is no C compiler")
    source, library = folder / "failing_disk.c", folder / "failing_disk.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def environment(library: Path, fault: Path) -> dict[str, str]:
    """Return the environment of a process whose disk fails as the file `fault` specifies."""
    return {**os.environ, "LD_PRELOAD": str(library), "FAULT": str(fault)}


def fail(fault: Path, what: str, count: int = 1) -> None:
    """Make the next `count` writes of meta pages (`meta`) or syncs (`sync`) fail."""
    fresh = fault.with_suffix(".new")
    fresh.write_text(f"{what} {count}")
    fresh.replace(fault)


def left(fault: Path) -> int:
    """Return how many of them have not failed yet."""
    return int(fault.read_text().split()[1])
