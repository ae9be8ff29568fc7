"""Promise 5: no answer that is committed is ever paid for again, wherever the process is killed."""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from models_rules import CONVERTERS
from paid_flows import FLOWS
from paid_processes import Case, OnDisk, Payer, effects, on_disk
from paid_server import Account

REQUESTS = {"tools": 4, "sequence": 3, "parallel": 3, "handoff": 3, "delegation": 5}


class Whole(NamedTuple):
    """A run that was not killed."""

    outcome: dict[str, Any]
    left: OnDisk
    account: Account
    effects: list[str]


@cache
def uninterrupted(payer: Payer, case: Case) -> Whole:
    account = payer.server.open_account()
    with TemporaryDirectory() as name:
        folder = Path(name)
        outcome = payer.walk(folder, case, account)
        assert outcome is not None
        whole = Whole(outcome, on_disk(folder), account, sorted(effects(folder)))
    assert outcome["status"] == "completed", outcome
    assert len(account.asked) == len(set(account.asked)) == REQUESTS[case.flow]
    assert outcome["usage"] == {
        "model_calls": REQUESTS[case.flow],
        "input_tokens": account.input_tokens,
        "output_tokens": account.output_tokens,
    }
    check_bodies(account)
    return whole


def check_bodies(account: Account) -> None:
    """Check that every request is valid for its API."""
    assert account.bodies
    for api, body in account.bodies:
        CONVERTERS[api][1](body)


def digests(asked: Iterable[str]) -> set[str]:
    return {one.split(" ")[1] for one in asked}


def check_end(folder: Path, case: Case, outcome: dict[str, Any], account: Account, payer: Payer) -> None:
    """Check that the run ended like an undisturbed one."""
    whole = uninterrupted(payer, case)
    assert outcome == whole.outcome
    left = on_disk(folder)
    assert left.events == whole.left.events
    assert left.messages == whole.left.messages
    assert left.answers == digests(whole.account.asked)
    assert set(account.asked) == set(whole.account.asked), "the same was asked"
    assert sorted(set(effects(folder))) == whole.effects
    check_bodies(account)


def check_paid_once(before: OnDisk, folder: Path, account: Account) -> None:
    """Check that committed answers were requested once, and that their tools were called once."""
    paid_twice = digests(one for one, times in account.times_asked.items() if times > 1)
    assert not paid_twice & before.answers
    did = Counter(effects(folder))
    assert {call: did[call] for call in before.tools} == dict.fromkeys(before.tools, 1)


def killed_once(payer: Payer, folder: Path, case: Case, point: str, at: int) -> OnDisk | None:
    """Kill a run at one point and let another process end it; return the records at the kill, if it got that far."""
    account = payer.server.open_account()
    if payer.walk(folder, case, account, point=point, count=at) is not None:
        return None
    left = on_disk(folder)
    payer.server.readdress(account)
    outcome = payer.walk(folder, case, account)
    assert outcome is not None
    check_end(folder, case, outcome, account, payer)
    check_paid_once(left, folder, account)
    whole = uninterrupted(payer, case)
    assert account.by_url[account.url] <= len(whole.account.asked) - len(left.answers)
    assert max(account.times_asked.values()) <= 2
    return left


CASES = [Case(flow, "chat") for flow in FLOWS]
CASES += [Case(flow, api) for flow in ("tools", "handoff", "delegation") for api in ("responses", "anthropic")]


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_run_that_is_killed_at_the_commit_of_any_answer_pays_for_no_committed_answer_again(
    payer: Payer, tmp_path: Path, case: Case, point: str
) -> None:
    for at in range(1, REQUESTS[case.flow] + 1):
        left = killed_once(payer, tmp_path / str(at), case, point, at)
        assert left is not None, "the process was to die here"
        if point == "after_commit":
            assert len(left.answers) >= at
        else:
            assert len(left.answers) < at


@pytest.mark.parametrize("case", [Case("tools", "chat"), Case("delegation", "chat", "batch")], ids="-".join)
@pytest.mark.parametrize("point", ["heard", "answered", "inside_commit"])
def test_a_run_that_is_killed_during_an_answer_or_its_commit_requests_this_answer_again(
    payer: Payer, tmp_path: Path, case: Case, point: str
) -> None:
    for at in count(1):
        left = killed_once(payer, tmp_path / str(at), case, point, at)
        if left is None:
            assert at > 2
            return
        assert len(left.answers) < at or point == "heard"


@pytest.mark.parametrize("case", [Case(flow, "chat") for flow in FLOWS], ids="-".join)
def test_a_run_that_is_killed_after_each_answer_pays_for_each_committed_answer_once(
    payer: Payer, tmp_path: Path, case: Case
) -> None:
    account = payer.server.open_account()
    deaths, before, asked_before = 0, OnDisk(frozenset(), frozenset(), [], {}), 0
    while True:
        outcome = payer.walk(tmp_path, case, account, point="after_commit", count=1)
        assert not digests(account.asked[asked_before:]) & before.answers, "this had been paid for"
        if outcome is not None:
            break
        deaths, before, asked_before = deaths + 1, on_disk(tmp_path), len(account.asked)
    assert deaths > 1
    check_end(tmp_path, case, outcome, account, payer)
