"""A short storm for each durability. `storm.py` is the long one."""

import secrets
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from stores.base import Durability


@pytest.mark.parametrize("durability", get_args(Durability))
def test_no_promise_is_broken_by_kills_and_freezes(tmp_path: Path, durability: Durability) -> None:
    program = Path(__file__).with_name("storm.py")
    seed = str(secrets.randbelow(1 << 30))
    options = ["--kills", "25", "--durability", durability, "--seed", seed, "--folder", str(tmp_path)]
    ended = subprocess.run([sys.executable, str(program), *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(options)}\n{ended.stdout}\n{ended.stderr}"
    assert "0 promises broken" in ended.stdout
