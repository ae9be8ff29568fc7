"""A storm: processes that drive runs of random graphs and workflows on one store are killed and frozen at random.

    python tests/storm/storm.py --kills 2000 --durability batch --seed 7

Each round has a new store, four to eight runs and one to three processes. While they work they get SIGKILL, or
SIGSTOP for up to five leases; some also kill themselves before, inside or after one of their commits. Then the
remaining runs finish undisturbed, and `storm_checks` checks the promises. A round that breaks a promise is printed
with its seed, and its folder is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import get_args

sys.path.insert(0, str(Path(__file__).parent.parent / "properties"))

from storm_checks import violations
from storm_flows import Effects, runs_of
from storm_processes import POINTS, Fuse, Round, forked, sender, server, starter

from stores.base import Durability

__all__ = ["StormResult", "storm"]

_PATIENCE_S = 120  # a storm's runs finish within seconds of its last kill
_FREEZES_S = (0.3, 1.0, 3.0)  # shorter than a lease, and so long that another process has taken over


@dataclass
class StormResult:
    """Counts of a storm, and the promises it broke."""

    counts: Counter[str] = field(default_factory=Counter)
    """Rounds, runs, nodes begun, kills, freezes."""
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return f"{shown}: {len(self.violations)} promises broken"


def storm(folder: Path, durability: Durability, kills: int, seed: int) -> Iterator[StormResult]:
    """Storm round after round until so many processes were killed; yield the result so far after each round."""
    result = StormResult()
    number = 0
    while result.counts["kills"] < kills:
        place = folder / f"{durability}-{seed}-{number}"
        (place / "sent").mkdir(parents=True)
        left = kills - result.counts["kills"]
        broken = _round(place, durability, f"{durability}-{seed}-{number}", left, result.counts)
        result.violations += [f"{place}: {line}" for line in broken]
        if not broken:
            shutil.rmtree(place)
        number += 1
        yield result


def _round(folder: Path, durability: Durability, seed: str, kills: int, counts: Counter[str]) -> list[str]:
    chance = Random(seed)
    runs = tuple(runs_of(chance, chance.randrange(4, 9)))
    round_ = Round(folder, seed, durability, chance.randrange(1, 4), runs, is_far=chance.random() < 0.5)
    Effects(folder / "effects", chance)
    os.waitpid(forked(round_, "starter", partial(starter, round_)), 0)
    sending = forked(round_, "sender", partial(sender, round_, seed)) if round_.is_far else None
    try:
        _Fleet(round_, chance, counts).storm(min(kills, chance.randrange(10, 40)))
    except (TimeoutError, ChildProcessError) as error:
        return [str(error)]
    finally:
        if sending is not None:
            os.kill(sending, signal.SIGKILL)
            os.waitpid(sending, 0)
    counts["rounds"] += 1
    counts["runs"] += len(runs)
    counts["nodes begun"] += sum(1 for _ in (folder / "effects").open())
    os.waitpid(forked(round_, "checker", partial(_report, round_)), 0)
    report = folder / "report.json"
    return json.loads(report.read_text()) if report.exists() else ["the check itself failed: see checker.txt"]


async def _report(round_: Round) -> None:
    (round_.folder / "report.json").write_text(json.dumps(await violations(round_)))


class _Fleet:
    """The processes that drive the runs of one round."""

    def __init__(self, round_: Round, chance: Random, counts: Counter[str]) -> None:
        self._round, self._chance, self._counts = round_, chance, counts
        self._alive: dict[int, int] = {}  # slot to process
        self._frozen: dict[int, float] = {}  # slot to the time at which it wakes
        self._born = 0

    def storm(self, kills: int) -> None:
        """Kill this many processes, or until the runs are over; then let the rest finish.

        Raises `TimeoutError` if it does not, `ChildProcessError` if a process fails.
        """
        left = kills
        try:
            while left > 0 and not self._round.over.exists():
                self._fill(fused=True)
                time.sleep(self._chance.choice([0.01, 0.03, 0.1, 0.2, 0.4]))
                left -= self._reap() + self._strike()
            self._wake_all()
            self._finish()
        finally:
            for child in self._alive.values():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

    def _fill(self, *, fused: bool) -> None:
        for slot in range(self._round.processes):
            if slot not in self._alive:
                fuse = Fuse()
                if fused and self._chance.random() < 0.4:
                    fuse = Fuse(self._chance.choice(POINTS), self._chance.randrange(1, 30))
                seed = f"{self._round.seed} {slot} {self._born}"
                name = f"server-{slot}-{self._born}"
                self._alive[slot] = forked(self._round, name, partial(server, self._round, seed, fuse))
                self._born += 1

    def _strike(self) -> int:
        """Wake processes that have slept long enough, then kill or freeze one; return how many were killed."""
        now = time.monotonic()
        for slot in [slot for slot, until in self._frozen.items() if until <= now]:
            self._wake(slot)
        slot = self._chance.choice(sorted(self._alive) or [-1])
        if slot == -1:
            return 0
        if slot not in self._frozen and self._chance.random() < 0.25:
            os.kill(self._alive[slot], signal.SIGSTOP)
            seconds = self._chance.choice(_FREEZES_S)
            self._frozen[slot] = now + seconds
            self._counts["freezes"] += 1
            if self._chance.random() < 0.5:  # time for another process to take over and to get far
                time.sleep(seconds)
            return 0
        if self._chance.random() < (0.95 if slot in self._frozen else 0.3):
            return 0  # most frozen ones must wake up, and some others get further
        os.kill(self._alive[slot], signal.SIGKILL)
        os.waitpid(self._alive.pop(slot), 0)
        self._frozen.pop(slot, None)
        self._counts["kills"] += 1
        return 1

    def _wake(self, slot: int) -> None:
        del self._frozen[slot]
        os.kill(self._alive[slot], signal.SIGCONT)

    def _wake_all(self) -> None:
        for slot in list(self._frozen):
            self._wake(slot)

    def _reap(self) -> int:
        """Collect the processes that killed themselves."""
        killed = 0
        for slot, child in list(self._alive.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del self._alive[slot]
                self._frozen.pop(slot, None)
                if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
                    raise ChildProcessError(f"process {slot} failed: see the newest server-{slot}-*.txt")
                killed += os.WIFSIGNALED(status)
        self._counts["kills"] += killed
        return killed

    def _finish(self) -> None:
        """Wait until the runs are over, then end the processes as a supervisor does."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._round.over.exists():
            self._reap()
            self._fill(fused=False)
            if time.monotonic() > deadline:
                raise TimeoutError(f"its runs were not over {_PATIENCE_S} s after the last kill")
            time.sleep(0.01)
        for child in self._alive.values():
            os.kill(child, signal.SIGTERM)
        while self._alive:
            self._reap()
            if time.monotonic() > deadline:
                raise TimeoutError("a process did not end on SIGTERM")
            time.sleep(0.01)


def main() -> int:
    """Storm with the options of the command line; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many processes to kill, for each durability")
    parser.add_argument("--durability", choices=get_args(Durability), action="append", help="all by default")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="where the stores are; a temporary folder by default")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="storm-"))
    broken = 0
    for durability in given.durability or get_args(Durability):
        result, printed = StormResult(), 0
        for result in storm(folder, durability, given.kills, given.seed):
            for line in result.violations[printed:]:
                print(line, flush=True)
            printed = len(result.violations)
            if sys.stderr.isatty():
                print(f"\r{durability}: {result}", end="", file=sys.stderr)
        print(f"{durability}, seed {given.seed}: {result}", flush=True)
        broken += len(result.violations)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
