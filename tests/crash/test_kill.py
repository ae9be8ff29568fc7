"""Promises 1 to 3: committed nodes never run again, interrupted nodes run again, and the result is the same."""

import random
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from crash_flows import FLOWS
from crash_processes import Attempt, Killer, OnDisk, effects, on_disk

POINTS = ("before", "inside", "before_commit", "inside_commit", "after_commit")
KILLS = 20


class Expected(NamedTuple):
    output: Any
    attempts: set[Attempt]
    events: dict[str, list[tuple[Any, ...]]]


@cache
def uninterrupted(killer: Killer, flow: str) -> Expected:
    with TemporaryDirectory() as name:
        folder = Path(name)
        output = killer.walk(folder, flow, "commit")
        happened = effects(folder)
        assert set(happened.values()) == {1}
        return Expected(output, set(happened), on_disk(folder).events)


def check_end(folder: Path, output: Any, expected: Expected) -> None:
    """Check that the run ended like an undisturbed one."""
    assert output == expected.output
    assert set(effects(folder)) == expected.attempts
    assert on_disk(folder).events == expected.events


def killed_once(killer: Killer, folder: Path, flow: str, durability: str, point: str, at: int) -> bool:
    """Kill a run at one point and let another process end it; return whether it reached that point."""
    expected = uninterrupted(killer, flow)
    output = killer.walk(folder, flow, durability, point=point, count=at)
    if output is not None:
        return False
    before, left = effects(folder), on_disk(folder)
    output = killer.walk(folder, flow, durability)
    check_end(folder, output, expected)
    after = effects(folder)
    again = {attempt for attempt in after if after[attempt] > 1}
    assert all(after[attempt] == 1 for attempt in left.ended & set(after)), "what was committed ran again"
    assert again <= set(before)
    assert all(after[attempt] == 2 for attempt in again)
    if durability != "batch":  # there the work runs ahead of the disk
        assert again <= left.running
    return True


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_killed_at_any_point_ends_like_an_undisturbed_one(
    killer: Killer, tmp_path: Path, flow: str, point: str
) -> None:
    for at in count(1):
        if not killed_once(killer, tmp_path / str(at), flow, "commit", point, at):
            assert at > 2
            return


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("durability", ["batch", "none"])
@pytest.mark.parametrize("point", ["inside", "inside_commit"])
def test_the_other_durabilities_lose_no_more_than_documented(
    killer: Killer, tmp_path: Path, flow: str, durability: str, point: str
) -> None:
    for at in count(1):
        if not killed_once(killer, tmp_path / str(at), flow, durability, point, at):
            return


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
def test_twenty_kills_at_random_moments_do_not_change_the_result(
    killer: Killer, tmp_path: Path, flow: str, durability: str
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    expected = uninterrupted(killer, flow)
    kills = 0
    for number in count():
        folder = tmp_path / str(number)
        output, left = None, OnDisk(set(), set(), {})
        while output is None and kills < KILLS:
            counted = effects(folder)
            delay = chance.uniform(0.0, 0.06)
            output = killer.walk(folder, flow, durability, delay=delay, pause=0.004, patient=True)
            kills += output is None
            for attempt in left.ended & set(counted):
                assert effects(folder)[attempt] == counted[attempt], f"{attempt} ran again"
            left = on_disk(folder)
        if output is None:
            output = killer.walk(folder, flow, durability, patient=True)
        check_end(folder, output, expected)
        if kills == KILLS:
            return


def test_a_node_that_kills_its_process_again_and_again_ends_as_interrupted(killer: Killer, tmp_path: Path) -> None:
    deaths = 0
    while (said := killer.walk(tmp_path, "branch", "commit", point="inside", count=1)) is None:
        deaths += 1
    assert said == (
        "run 'the-run': node 'look' failed in attempt 1: Interrupted: 6 processes ended while the node ran; "
        "max_interruptions is 5; mend the cause and resume the run, or cancel it"
    )
    assert deaths == 6
    assert list(effects(tmp_path).values()) == [6]
