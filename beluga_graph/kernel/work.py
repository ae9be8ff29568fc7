"""The work of a live run: all of it, and how a patch changes it."""

from __future__ import annotations

from typing import NamedTuple

from beluga_graph.kernel.listener_list import is_listener
from beluga_graph.kernel.ops import (
    ADD_LISTENER,
    ARM_TIMER,
    DISARM_TIMER,
    PUT_TOKEN,
    RECEIVE_ANSWER,
    RECEIVE_PAYLOAD,
    REMOVE_LISTENER,
    REMOVE_TOKEN,
    SET_ERROR,
    SET_STATE,
    SET_STATUS,
    clears_error,
    token_name,
)
from beluga_graph.kernel.rules import signal_of
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUN, Snapshot, Token
from beluga_graph.kernel.tokens import AT_WAIT
from beluga_graph.kernel.triggers import ArmTimer, AwaitInterrupt, AwaitSignal, RunNode, Work
from beluga_graph.kernel.types import Patch

__all__ = ["WorkChange", "diff_work", "list_work"]

_CHANGES_WORK = frozenset(
    (
        PUT_TOKEN,
        SET_STATE,
        RECEIVE_PAYLOAD,
        RECEIVE_ANSWER,
        REMOVE_TOKEN,
        ARM_TIMER,
        DISARM_TIMER,
        ADD_LISTENER,
        REMOVE_LISTENER,
        SET_STATUS,
        SET_ERROR,
    )
)


class WorkChange(NamedTuple):
    """The change that a patch makes to the work of a live run."""

    tokens: tuple[str, ...]  # their work is over, but for listeners
    timers: tuple[str, ...]  # likewise
    listeners: tuple[tuple[str, str], ...]  # likewise: signal and name
    new: tuple[Work, ...]
    whole: bool  # the run ended, failed or was revived: all earlier work is over, and `new` is all there is


def list_work(shape: Shape, run: Snapshot) -> list[Work]:
    """Return all the work of a run: what its owner begins with after a resume."""
    if run.ended or run.status == FAILED:
        return []
    found: list[Work] = [ArmTimer(timer, due) for timer, due in run.timers.items()]
    found += [
        AwaitInterrupt(name, signal)
        for signal, names in run.waits.items()
        for name in names
        if is_listener(shape, run, signal, name)
    ]
    return found + [work for token in run.tokens.values() if (work := _token_work(shape, token)) is not None]


def diff_work(shape: Shape, run: Snapshot, patch: Patch) -> WorkChange:
    """Return the change of work that `patch` has made to `run`; call it after `apply`.

    For every patch, the work before it, minus the work that is over, plus the new work equals the work after it.
    The cost is the size of the patch.
    """
    tokens: list[str] = []
    timers: list[str] = []
    listeners: list[tuple[str, str]] = []
    heard: list[Work] = []  # before other work: a signal that came early interrupts a node before it begins
    new: dict[tuple[str, str], Work] = {}
    for op in patch.ops:
        kind = op[0]
        if kind not in _CHANGES_WORK:
            continue
        begun = None
        if kind == PUT_TOKEN:
            begun = token_name(op)
        elif kind == REMOVE_TOKEN:
            _, token = op
            tokens.append(token)
        elif kind == ARM_TIMER:
            _, timer, due = op
            new["timer", timer] = ArmTimer(timer, due)
        elif kind == ADD_LISTENER:
            _, signal, name = op
            heard.append(AwaitInterrupt(name, signal))
        elif kind == REMOVE_LISTENER:
            _, signal, name = op
            listeners.append((signal, name))
        elif kind == DISARM_TIMER:
            _, timer = op
            timers.append(timer)
        elif kind == SET_STATUS:
            _, status = op
            if status in (COMPLETED, FAILED, CANCELLED):
                return WorkChange((), (), (), (), whole=True)
        elif kind == SET_ERROR:
            if clears_error(op):
                return WorkChange((), (), (), tuple(list_work(shape, run)), whole=True)
        else:
            _, begun, *_ = op
            tokens.append(begun)
        if begun is not None and (work := _token_work(shape, run.tokens[begun])) is not None:
            new["token", begun] = work
    return WorkChange(tuple(tokens), tuple(timers), tuple(listeners), (*heard, *new.values()), whole=False)


def _token_work(shape: Shape, token: Token) -> Work | None:
    """Return the work at a token. A retry, a pause and a failed token have none: their timers are work."""
    if token.state == RUN:
        return RunNode(token.name, token.attempt)
    if token.state == AT_WAIT:
        return AwaitSignal(token.name, signal_of(shape.nodes[token.node], token.name) or "")
    return None
