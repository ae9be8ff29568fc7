"""`LoopAgent`: a flow that is repeated until a condition holds or a limit is reached."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.flows.checks import check_flow_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import build_frames
from beluga_graph.plan.declared import END, START, Branch, Declared, DeclaredNode
from beluga_graph.plan.plan import positional_parameters, wants_context
from beluga_graph.reducers import add

__all__ = ["LoopAgent"]

AGAIN, DONE = "again", "done"


class Passes(BaseModel):
    """The state of a loop."""

    made: Annotated[int, add] = 0


class LoopAgent(Flow):
    """A flow that is repeated until a condition holds, at most `max_iterations` times.

    The output of an iteration is the input of the next one; the output of the last one is the output of the loop.
    Reaching the limit is not a failure. A loop ends with an event `loop_finished`, whose `reason` is `condition` or
    `limit`. If the loop is the flow of a run, the run's `Outcome` has the reason, too.

    ```python
    refine = LoopAgent("refine", writer, max_iterations=5, until=lambda text: len(text) < 400)
    ```

    Args:
        name: The flow's name. An engine knows one flow by each name and version.
        agent: The flow to repeat.
        max_iterations: The largest number of iterations.
        until: The condition: a function `(output)` or `(output, iteration)`, sync or async, that may take the context
            first. Iterations count from 1. Without a condition the loop makes `max_iterations` iterations.
        version: The version of the flow, such as `"2"`; `None` for a flow without versions. Runs keep the version that
            they began with.

    Attributes:
        name: The flow's name.
        agent: The flow that is repeated.
        max_iterations: The largest number of iterations.
        until: The condition, if any.
        version: The flow's version, if it has one.

    Raises:
        BadName: The name or the version is not valid.
        ValueError: `max_iterations` is not a positive whole number.
    """

    def __init__(
        self,
        name: str,
        agent: Flow,
        *,
        max_iterations: int = 10,
        until: Callable[..., Any] | None = None,
        version: str | None = None,
    ) -> None:
        if type(max_iterations) is not int or max_iterations < 1:
            msg = f"LoopAgent({name!r}, max_iterations={max_iterations!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_flow_name(name, version)
        self.name = name
        self.version = version
        self.agent = agent
        self.max_iterations = max_iterations
        self.until = until

    def declare(self) -> Declared:
        """Return the loop as a graph: a frame, and a choice with a route back to it and a route out."""
        graph = Declared(self.name, version=self.version, state=Passes)
        check = f"{self.name}.until"
        (frame,) = build_frames(self.name, [self.agent], own=(check,))
        graph.nodes[frame.name] = frame
        graph.nodes[check] = DeclaredNode(name=check, kind="choice")
        graph.edges += [(START.name, frame.name), (frame.name, check)]
        graph.branches[check] = Branch(self._make_chooser(), {AGAIN: frame.name, DONE: END.name})
        return graph

    def _make_chooser(self) -> Callable[..., Any]:
        name, until, limit = self.name, self.until, self.max_iterations
        takes_context, takes_iteration = _inspect_condition(until)

        async def choose(ctx: Context, output: Any) -> str:
            made = ctx.state.made + 1
            ctx.update(made=1)
            if until is not None:
                args = (ctx, output) if takes_context else (output,)
                holds = until(*args, made) if takes_iteration else until(*args)
                if inspect.isawaitable(holds):
                    holds = await holds
                if holds:
                    return _finish(ctx, name, "condition", made)
            return AGAIN if made < limit else _finish(ctx, name, "limit", made)

        return choose


def _finish(ctx: Context, name: str, reason: str, iterations: int) -> str:
    """Record why a loop ended, and return the route out of it."""
    attempt = attempt_of(ctx)
    attempt.emit("loop_finished", name=name, reason=reason, iterations=iterations)
    if attempt.in_run_itself:  # a loop within another flow reports the reason by its event only
        attempt.reason = reason
    return DONE


def _inspect_condition(until: Callable[..., Any] | None) -> tuple[bool, bool]:
    """Return whether a condition takes the context, and whether it takes the iteration.

    Parameters with a default are the condition's own.
    """
    needed = [p for p in positional_parameters(until) if p.default is p.empty] if until is not None else []
    takes_context = bool(needed) and wants_context(needed[0])
    return takes_context, len(needed) - takes_context > 1
