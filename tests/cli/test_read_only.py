"""A store that cannot be written can be read: on a read-only mount, and by a user without write permission."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from healthy_stores import fill

LOOKS = [
    ["runs"],
    ["show", "done"],
    ["history", "done"],
    ["events", "done"],
    ["draw", "done"],
    ["draw", "done", "--format", "html"],
    ["diff", "done", "fork"],
    ["pending"],
    ["verify"],
]
PROGRAM = """
import os, sys
from beluga_graph.cli.app import app

def run(arguments, store):
    try:
        app([*arguments, "--store", store])
    except SystemExit as error:
        return error.code or 0

looks, read_only, writable = eval(sys.argv[1]), *sys.argv[2:4]
for look in looks:
    run(look, writable)  # load late imports now: the other user may not be allowed to read them
print("=====", flush=True)
if len(sys.argv) > 4:
    os.setuid(int(sys.argv[4]))
for look in looks:
    assert run(look, read_only) == 0, look
    print("looked", look[0], flush=True)
assert run(["signal", "parked", "go"], read_only) == 1
"""


@pytest.fixture
def stores() -> Iterator[tuple[Path, Path]]:
    """Return two stores with equal content, in a folder that every user can enter; tests read the first one."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        asyncio.run(fill(folder / "writable", seed=2, actions=0))
        shutil.copytree(folder / "writable", folder / "store")
        yield folder / "store", folder / "writable"


def look(stores: tuple[Path, Path], *more: str, before: str = "") -> tuple[str, str]:
    command = [sys.executable, "-c", PROGRAM, repr(LOOKS), *map(str, stores), *more]
    if before:
        command = ["unshare", "-rm", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("=====\n")[1], done.stderr


@pytest.mark.parametrize("locked", [True, False], ids=["with a lock file", "without one"])
def test_a_store_on_a_read_only_mount_can_be_read(stores: tuple[Path, Path], locked: bool) -> None:
    store = stores[0]
    if not locked:
        (store / "lock.mdb").unlink()
    mount = f"mount --bind {store} {store} && mount -o remount,bind,ro {store}"
    probe = ["unshare", "-rm", "sh", "-c", mount]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts")
    said, errors = look(stores, before=mount)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("looked ")] == [each[0] for each in LOOKS]
    assert "no damage" in said
    assert "cannot be written" in errors


@pytest.mark.parametrize("locked", [True, False], ids=["with a lock file", "without one"])
def test_a_store_without_write_permission_can_be_read(stores: tuple[Path, Path], locked: bool) -> None:
    store = stores[0]
    if not locked:
        (store / "lock.mdb").unlink()
    for file in store.iterdir():
        file.chmod(0o444)
    store.chmod(0o555)
    said, errors = look(stores, *(["65534"] if os.geteuid() == 0 else []))
    assert [line.split()[1] for line in said.splitlines() if line.startswith("looked ")] == [each[0] for each in LOOKS]
    assert "no damage" in said
    assert "cannot be written" in errors
    store.chmod(0o755)
