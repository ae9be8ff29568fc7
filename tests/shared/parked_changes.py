"""A table of changes of flows under parked runs: where the run is, what changes, and whether the run goes on.

The tests of each driver run the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from parked_flows import HOUR, Code, Fan, Part, Pick, Sub, Timer, Wait, build
from pydantic import BaseModel

from beluga_graph import Context, Graph, add

__all__ = ["CHANGES", "ParkedChange"]


# What the nodes do.


async def take_length(value: str) -> int:
    return len(value.strip())


async def fail(value: Any) -> Any:
    raise ValueError("not yet")


class Counted(BaseModel):
    n: Annotated[int, add] = 0


class Noted(BaseModel):
    n: Annotated[int, add] = 0
    note: str = "none"


class Needed(BaseModel):
    n: Annotated[int, add] = 0
    needed: str


class Empty(BaseModel):
    other: str = ""


class Lettered(BaseModel):
    n: str = ""


class Replaced(BaseModel):
    n: int = 0


async def count(ctx: Context, value: Any) -> Any:
    ctx.update(n=1)
    return value


async def tell(ctx: Context, value: Any) -> Any:
    return [value, ctx.state.n]


async def tell_note(ctx: Context, value: Any) -> Any:
    return [value, ctx.state.n, ctx.state.note]


COUNT = Code("count", count)


# The table.


@dataclass(frozen=True, kw_only=True)
class ParkedChange:
    """One row: a run of `old` is parked, and the flow becomes `new`.

    `safe` rows go on, `rename` ones with these renames only, and `refused` ones not at all, with these differences.
    What comes after is in `signals` and `hours`, in this order, and its result in `output` or `failure`.
    """

    name: str
    old: Graph
    new: Graph
    refused: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    signals: tuple[tuple[str, Any], ...] = ()
    hours: float = 0.0
    output: Any = None
    failure: tuple[str, str] | None = None
    """The node that fails, and the type of its failure."""

    def __str__(self) -> str:
        return self.name


HERE = "the run is at this node"
WAITS = "the run waits here"
ON = "the run continues from this node"
HOLDS = "the run holds its value"
ORDER = "its results are in the order of its branches"
LOST = "the run is at this node, and senders know the old signal"
OPEN = "its branches are open"

PAY = (("pay", ["paid"]),)
WAITING = ("order", Wait("pay"), "pack", "ship")
NAPPING = ("order", Timer("nap"), "ship")
INSIDE = ("order", Sub("desk", ("check", Wait("pay"), "note")), "ship")
BRANCHES = (("mail", Wait("seen")), ("bill", Wait("pay")))
FANNED = ("order", Fan("split", BRANCHES), "ship")
BOTH = (("seen", "s"), ("pay", "p"))
PICKED = ("order", Wait("pay"), Pick(("pack", "drop")), "ship")


def _at_wait(name: str, *new: Part, old: tuple[Part, ...] = WAITING, **more: Any) -> ParkedChange:
    """Return a row for a run at the wait `pay`."""
    expected = {"signals": PAY, **more} if "refused" not in more else more
    return ParkedChange(name=name, old=build(*old), new=build(*new), **expected)


def _at_timer(name: str, *new: Part, old: tuple[Part, ...] = NAPPING, **more: Any) -> ParkedChange:
    """Return a row for a run at the timer `nap`."""
    expected = {"hours": 1.0, **more} if "refused" not in more else more
    return ParkedChange(name=name, old=build(*old), new=build(*new), **expected)


def _with_state(name: str, old: type[BaseModel], new: type[BaseModel], last: Code, **more: Any) -> ParkedChange:
    parts = (COUNT, Wait("pay"), last)
    expected = {"signals": (("pay", "p"),), **more} if "refused" not in more else more
    return ParkedChange(name=name, old=build(*parts, state=old), new=build(*parts, state=new), **expected)


CHANGES = [
    # What comes after a wait.
    _at_wait(
        "a step after the wait", "order", Wait("pay"), "new", "pack", "ship", output=["paid", "new", "pack", "ship"],
    ),
    _at_wait("the next step is gone", "order", Wait("pay"), "ship", output=["paid", "ship"]),
    _at_wait("all that follows is gone", "order", Wait("pay"), output=["paid"]),
    _at_wait("the next step is renamed", "order", Wait("pay"), "wrap", "ship", output=["paid", "wrap", "ship"]),
    _at_wait("the next steps are swapped", "order", Wait("pay"), "ship", "pack", output=["paid", "ship", "pack"]),
    _at_wait("the next step is a sub-flow", "order", Wait("pay"), Sub("desk", ("pack",)), output=["paid", "pack"]),
    _at_wait("the next step is a timer", "order", Wait("pay"), Timer("nap"), hours=1.0, output=["paid"]),
    _at_wait(
        "the next step is another wait", "order", Wait("pay"), Wait("more"), "ship",
        signals=(*PAY, ("more", "m")), output=["m", "ship"],
    ),
    _at_wait(
        "the next step is a fan-out", "order", Wait("pay"), Fan("split", (("a",), ("b",))),
        output=[["paid", "a"], ["paid", "b"], "joined"],
    ),
    _at_wait("a branch after the wait", *PICKED, output=["paid", "pack", "ship"]),
    _at_wait("the branch after the wait is gone", *WAITING, old=PICKED, output=["paid", "pack", "ship"]),
    _at_wait(
        "other routes of the branch", "order", Wait("pay"), Pick(("burn", "drop")), "ship", old=PICKED,
        output=["paid", "burn", "ship"],
    ),
    _at_wait(
        "the next step takes another type that fits", "order", Wait("pay"), Code("pack", take_length),
        signals=(("pay", "four"),), output=4,
    ),
    _at_wait(
        "the next step takes another type that does not fit", "order", Wait("pay"), Code("pack", take_length),
        signals=(("pay", 4),), failure=("pack", "AttributeError"),
    ),
    # What comes before a wait.
    _at_wait("a step before the wait", "order", "new", *WAITING[1:], output=["paid", "pack", "ship"]),
    _at_wait("the steps before the wait are gone", *WAITING[1:], output=["paid", "pack", "ship"]),
    _at_wait("a wait is moved to a later place", "order", "pack", Wait("pay"), "ship", output=["paid", "ship"]),
    # The wait itself.
    _at_wait(
        "the wait is renamed", "order", Wait("paid", "pay"), "pack", "ship",
        rename={"pay": "paid"}, refused=(f"node 'pay' is gone: {HERE}",), signals=PAY, output=["paid", "pack", "ship"],
    ),
    _at_wait(
        "the wait is renamed and a step inserted", "order", Wait("paid", "pay"), "new",
        rename={"pay": "paid"}, refused=(f"node 'pay' is gone: {HERE}",), signals=PAY, output=["paid", "new"],
    ),
    _at_wait("the wait is gone", "order", "pack", "ship", refused=(f"node 'pay' is gone: {HERE}",)),
    _at_wait(
        "the wait hears another signal", "order", Wait("pay", "paid"), "pack", "ship",
        refused=("node 'pay': signal was 'pay' and is 'paid': the run waits here, and senders know the old name",),
    ),
    _at_wait(
        "the wait takes another type", "order", Wait("pay", type=int), "pack", "ship",
        refused=("node 'pay': payload was none and is 'int': the run waits here, and sent signals have the old type",),
    ),
    _at_wait(
        "the wait has another default", "order", Wait("pay", default=1), "pack", "ship",
        refused=(f"node 'pay': default was none and is 1: {WAITS}",),
    ),
    _at_wait(
        "the wait has another timeout", "order", Wait("pay", timeout=HOUR), "pack", "ship",
        hours=2.0, output=["paid", "pack", "ship"],
    ),
    _at_wait(
        "the wait is a timer", "order", Timer("pay"), "pack", "ship",
        refused=(
            f"node 'pay': kind was 'wait' and is 'timer': {HERE}",
            "node 'pay': signal was 'pay' and is none: the run waits here, and senders know the old name",
        ),
    ),
    _at_wait(
        "an error edge out of the wait", "order", Wait("pay", timeout=HOUR, error="mend"), "pack", "ship",
        old=("order", Wait("pay", timeout=HOUR), "pack", "ship"), signals=(), hours=1.0,
        output=["SignalTimeout", "mend"],
    ),
    _at_wait(
        "no error edge out of the wait any more", "order", Wait("pay", timeout=HOUR), "pack", "ship",
        old=("order", Wait("pay", timeout=HOUR, error="mend"), "pack", "ship"), signals=(), hours=1.0,
        failure=("pay", "SignalTimeout"),
    ),
    _at_wait(
        "a signal that interrupts the wait", "order", Wait("pay", stop="stopped"), "pack", "ship",
        signals=(("stop", ["stop"]),), output=["stop", "stopped"],
    ),
    _at_wait(
        "the wait with a signal that interrupts goes on", "order", Wait("pay", stop="stopped"), "pack", "ship",
        output=["paid", "pack", "ship"],
    ),
    _at_wait(
        "no signal interrupts the wait any more", "order", Wait("pay"), "pack", "ship",
        old=("order", Wait("pay", stop="stopped"), "pack", "ship"),
        refused=(f"node 'pay': interrupts was 'stop' to 'stopped' and is none: {LOST}",),
    ),
    _at_wait(
        "the signal interrupts to another node", "order", Wait("pay", stop="halted"), "pack", "ship",
        old=("order", Wait("pay", stop="stopped"), "pack", "ship"),
        signals=(("stop", ["stop"]),), output=["stop", "halted"],
    ),
    _at_wait(
        "the wait is in a sub-flow", "order", Sub("desk", (Wait("pay"), "pack")), "ship",
        refused=(f"node 'pay' is gone: {HERE}",),
    ),
    _at_wait(
        "the wait is in a fan-out", "order", Fan("split", ((Wait("pay"),), ("pack",))), "ship",
        refused=(f"node 'pay': fan_outs was none and is 'split': {HERE}",),
    ),
    # Timers.
    _at_timer("a step after the timer", "order", Timer("nap"), "new", "ship", output=["in", "order", "new", "ship"]),
    _at_timer("the step after the timer is gone", "order", Timer("nap"), output=["in", "order"]),
    _at_timer("a longer timer", "order", Timer("nap", 9 * HOUR), "ship", output=["in", "order", "ship"]),
    _at_timer("a wait after the timer", "order", Timer("nap"), Wait("pay"), signals=PAY, output=["paid"]),
    _at_timer(
        "the timer is renamed", "order", Timer("pause"), "ship",
        rename={"nap": "pause"}, refused=(f"node 'nap' is gone: {HERE}",), hours=1.0, output=["in", "order", "ship"],
    ),
    _at_timer("the timer is gone", "order", "ship", refused=(f"node 'nap' is gone: {HERE}",)),
    _at_timer(
        "the timer is a wait", "order", Wait("nap"), "ship",
        refused=(
            f"node 'nap': kind was 'timer' and is 'wait': {HERE}",
            "node 'nap': signal was none and is 'nap': the run waits here, and senders know the old name",
        ),
    ),
    _at_timer(
        "the step after the timer takes a type that does not fit", "order", Timer("nap"), Code("ship", take_length),
        failure=("ship", "AttributeError"),
    ),
    # Sub-flows.
    _at_wait(
        "a step after the wait in a sub-flow", "order", Sub("desk", ("check", Wait("pay"), "new", "note")), "ship",
        old=INSIDE, output=["paid", "new", "note", "ship"],
    ),
    _at_wait(
        "a step after the sub-flow", *INSIDE[:2], "new", "ship", old=INSIDE, output=["paid", "note", "new", "ship"],
    ),
    _at_wait(
        "the sub-flow is moved", "order", "ship", *INSIDE[1:2], old=INSIDE, output=["paid", "note"],
    ),
    _at_wait(
        "an error edge out of the sub-flow", "order", Sub("desk", ("check", Wait("pay"), Code("note", fail)), "mend"),
        old=INSIDE, output=["ValueError", "mend"],
    ),
    _at_wait(
        "the sub-flow is renamed", "order", Sub("office", ("check", Wait("pay"), "note")), "ship", old=INSIDE,
        rename={"desk": "office"}, signals=PAY, output=["paid", "note", "ship"],
        refused=("node 'desk' is gone: the run is inside it", f"node 'desk/pay' is gone: {HERE}"),
    ),
    _at_wait(
        "the wait in a sub-flow is renamed", "order", Sub("desk", ("check", Wait("paid", "pay"), "note")), "ship",
        old=INSIDE, rename={"desk/pay": "desk/paid"}, signals=PAY, output=["paid", "note", "ship"],
        refused=(f"node 'desk/pay' is gone: {HERE}",),
    ),
    _at_wait(
        "the sub-flow is dissolved", "order", "check", Wait("pay"), "note", "ship", old=INSIDE,
        refused=("node 'desk' is gone: the run is inside it", f"node 'desk/pay' is gone: {HERE}"),
    ),
    # Fan-outs and joins.
    _at_wait(
        "a step after a wait in a branch", "order", Fan("split", (("mail", Wait("seen"), "new"), BRANCHES[1])), "ship",
        old=FANNED, signals=BOTH, output=[["s", "new"], "p", "joined", "ship"],
    ),
    _at_wait(
        "a step after the join", *FANNED[:2], "new", old=FANNED, signals=BOTH, output=["s", "p", "joined", "new"],
    ),
    _at_wait(
        "a wait in a branch is renamed", "order", Fan("split", (("mail", Wait("read", "seen")), BRANCHES[1])), "ship",
        old=FANNED, rename={"seen": "read"}, refused=(f"node 'seen' is gone: {HERE}",), signals=BOTH,
        output=["s", "p", "joined", "ship"],
    ),
    _at_wait(
        "one branch more", "order", Fan("split", (*BRANCHES, ("new",))), "ship", old=FANNED,
        refused=(
            f"node 'split': branches was 'mail', 'bill' and is 'mail', 'bill', 'new': {ORDER}",
        ),
    ),
    _at_wait(
        "one branch less", "order", Fan("split", BRANCHES[:1]), "ship", old=FANNED,
        refused=(
            f"node 'pay' is gone: {HERE}",
            f"node 'split': branches was 'mail', 'bill' and is 'mail': {ORDER}",
        ),
    ),
    _at_wait(
        "the join waits for fewer", "order", Fan("split", BRANCHES, wait=1), "ship", old=FANNED,
        refused=(f"node 'joined': wait was all and is 1: {OPEN}",),
    ),
    _at_wait(
        "the join collects failures", "order", Fan("split", BRANCHES, on_error="collect"), "ship", old=FANNED,
        refused=(f"node 'joined': collect was False and is True: {OPEN}",),
    ),
    _at_wait(
        "the join is renamed", "order", Fan("split", BRANCHES, join="merged"), "ship", old=FANNED,
        rename={"joined": "merged"}, signals=BOTH, output=["s", "p", "merged", "ship"],
        refused=(
            "node 'joined' is gone: it closes branches that are open",
            f"node 'split': join was 'joined' and is 'merged': {OPEN}",
        ),
    ),
    _at_wait(
        "the fan-out is renamed", "order", Fan("parts", BRANCHES), "ship", old=FANNED,
        rename={"split": "parts"}, signals=BOTH, output=["s", "p", "joined", "ship"],
        refused=(
            f"node 'seen': fan_outs was 'split' and is 'parts': {HERE}",
            f"node 'pay': fan_outs was 'split' and is 'parts': {HERE}",
            "node 'split' is gone: the run is inside it",
        ),
    ),
    # State.
    _with_state("a new field with a default", Counted, Noted, Code("tell", tell_note), output=["p", 1, "none"]),
    _with_state(
        "a new field without a default", Counted, Needed, Code("tell", tell),
        refused=("the graph: state field 'needed' is new: it has no default, and the run began without it",),
    ),
    _with_state(
        "a field is gone", Counted, Empty, Code("tell", tell),
        refused=(f"the graph: state field 'n' is gone: {HOLDS}",),
    ),
    _with_state(
        "a field has another type", Counted, Lettered, Code("tell", tell),
        refused=(f"the graph: state field 'n' was int (add) and is str (set): {HOLDS}",),
    ),
    _with_state(
        "a field has another reducer", Counted, Replaced, Code("tell", tell),
        refused=(f"the graph: state field 'n' was int (add) and is int (set): {HOLDS}",),
    ),
]  # fmt: skip
