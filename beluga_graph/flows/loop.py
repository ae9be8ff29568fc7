"""`LoopAgent`: one flow again and again, until a condition holds or a limit is reached."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph.execution.context import Context, inside
from beluga_graph.flows.checks import check_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import frames_of
from beluga_graph.plan.declared import END, START, Branch, Declared, DeclaredNode
from beluga_graph.plan.plan import positional, wants_context
from beluga_graph.reducers import add

__all__ = ["LoopAgent"]

AGAIN, DONE = "again", "done"


class Passes(BaseModel):
    """The state of a loop."""

    made: Annotated[int, add] = 0


class LoopAgent(Flow):
    """Run a flow until `until(output)` or `until(output, iteration)` is true, at most `max_iterations` times.

    `until` may be async, and may take the context first. The output of a pass is the input of the next;
    iterations count from 1. Each loop ends with an event `loop_finished`, whose `reason` is `condition` or `limit`; the
    outcome of a run of the loop itself has the reason, too. Reaching the limit is no failure. Without `until` every
    pass is made.
    """

    def __init__(
        self, name: str, agent: Flow, *, max_iterations: int = 10, until: Callable[..., Any] | None = None
    ) -> None:
        if type(max_iterations) is not int or max_iterations < 1:
            msg = f"LoopAgent({name!r}, max_iterations={max_iterations!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_name(name, name)
        self.name = name
        self.agent = agent
        self.max_iterations = max_iterations
        self.until = until

    def declare(self) -> Declared:
        """Return the flow as a frame, and a choice that leads back to it or out."""
        graph = Declared(self.name, state=Passes)
        check = f"{self.name}.until"
        (frame,) = frames_of(self.name, [self.agent], own=(check,))
        graph.nodes[frame.name] = frame
        graph.nodes[check] = DeclaredNode(name=check, kind="choice")
        graph.edges += [(START.name, frame.name), (frame.name, check)]
        graph.branches[check] = Branch(self._chooser(), {AGAIN: frame.name, DONE: END.name})
        return graph

    def _chooser(self) -> Callable[..., Any]:
        name, until, most = self.name, self.until, self.max_iterations
        takes_context, takes_iteration = _wants(until)

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
            return AGAIN if made < most else _finish(ctx, name, "limit", made)

        return choose


def _finish(ctx: Context, name: str, reason: str, iterations: int) -> str:
    """Put on record why a loop ended, and return the route out of it."""
    attempt = inside(ctx)
    attempt.emit("loop_finished", name=name, reason=reason, iterations=iterations)
    if attempt.in_run_itself:  # of a loop within another flow only its own event tells
        attempt.reason = reason
    return DONE


def _wants(until: Callable[..., Any] | None) -> tuple[bool, bool]:
    """Tell whether a condition takes the context, and whether the iteration; a default is its own."""
    needed = [p for p in positional(until) if p.default is p.empty] if until is not None else []
    takes_context = bool(needed) and wants_context(needed[0])
    return takes_context, len(needed) - takes_context > 1
