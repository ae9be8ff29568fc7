"""Flows of the parity tests that fail: unreachable joins, errors, retries, deadlines and limits."""

from parity_graphs import LATER_S, QUICK, SOON_S, describe, fail, hang, link

from beluga_graph import END, START, Context, Graph, Limits, Retry

__all__ = [
    "attempt_timeout",
    "attempt_timeout_exhausted",
    "error_edge",
    "error_edge_of_fan_out",
    "error_edge_of_frame",
    "failing_branch",
    "frame_deadline",
    "frame_retry",
    "frame_retry_exhausted",
    "retry_exhausted",
    "retry_gives_up",
    "too_many_steps",
    "too_many_visits",
    "unknown_route",
    "unreachable",
    "unreachable_handled",
]


# Joins.


def _unreachable(name: str) -> Graph:
    """Return a join that waits for two of three branches: one fails, then one fails after a signal, one waits."""
    g = Graph(name)
    for node in ("fail", "fail_later"):
        g.node(name=node)(fail)
    g.wait("left", "left")
    g.wait("never", "never")
    g.fan_out("three", to=["fail", "left", "never"], join="two")
    g.join("two", wait=2)
    g.edge("left", "fail_later")
    for end in ("fail", "fail_later", "never"):
        g.edge(end, "two")
    link(g, "three", "two")
    return g


def unreachable() -> Graph:
    return _unreachable("unreachable")


def unreachable_handled() -> Graph:
    g = _unreachable("unreachable_handled")
    g.node(name="describe")(describe)
    g.on_error("two", "describe")
    g.edge("describe", END)
    return g


def _failing_branch(name: str) -> Graph:
    g = Graph(name)
    g.node(name="hang")(hang)
    g.node(name="fail")(fail)
    g.fan_out("both", to=["hang", "fail"], join="in")
    g.join("in")
    link(g, "both", "in")
    return g


def failing_branch() -> Graph:
    return _failing_branch("failing_branch")


# Errors, retries and deadlines.


def error_edge() -> Graph:
    g = Graph("error_edge")

    @g.node(retry=Retry(attempts=2, initial=0.001))
    async def fails(value):
        raise KeyError(value)

    g.node(name="describe")(describe)
    g.node(name="never")(hang)
    link(g, fails, "never")
    g.on_error(fails, "describe")
    g.edge("describe", END)
    return g


def error_edge_of_fan_out() -> Graph:
    g = _failing_branch("error_edge_of_fan_out")
    g.node(name="describe")(describe)
    g.on_error("both", "describe")
    g.edge("describe", END)
    return g


def error_edge_of_frame() -> Graph:
    inner = Graph("inner")
    inner.node(name="first")(lambda value: value + 1)
    inner.node(name="fails")(fail)
    link(inner, "first", "fails")
    g = Graph("error_edge_of_frame")
    g.add(inner)
    g.node(name="describe")(describe)
    link(g, "inner")
    g.on_error("inner", "describe")
    g.edge("describe", END)
    return g


def frame_retry() -> Graph:
    """Return a flow whose frame fails twice, in its second node, whose own retry is used up each time."""
    inner = Graph("inner")
    inner.node(name="first")(lambda value: value + 1)

    @inner.node(retry=Retry(attempts=2, initial=0.001))
    async def flaky(ctx: Context, value):
        if ctx.deps.count(ctx.run_id) <= 5:
            raise ConnectionError("not yet")
        return [value, ctx.attempt, ctx.idempotency_key.removeprefix(ctx.run_id)]

    link(inner, "first", flaky)
    g = Graph("frame_retry")
    g.add(inner, retry=Retry(attempts=4, initial=0.001))
    link(g, "inner")
    return g


def frame_retry_exhausted() -> Graph:
    inner = Graph("inner")
    inner.node(name="fails")(fail)
    link(inner, "fails")
    g = Graph("frame_retry_exhausted")
    g.add(inner, retry=Retry(attempts=3, initial=0.001))
    link(g, "inner")
    return g


def attempt_timeout() -> Graph:
    g = Graph("attempt_timeout")

    @g.node(timeout=LATER_S / 2, retry=Retry(attempts=2, initial=0.001))
    async def hangs_once(ctx, value):
        return await hang(value) if ctx.attempt == 1 else [value, ctx.attempt]

    link(g, hangs_once)
    return g


def attempt_timeout_exhausted() -> Graph:
    g = Graph("attempt_timeout_exhausted")
    g.node(name="hang", timeout=SOON_S / 2, retry=Retry(attempts=2, initial=0.001))(hang)
    link(g, "hang")
    return g


def frame_deadline() -> Graph:
    inner = Graph("inner")
    inner.node(name="hang")(hang)
    link(inner, "hang")
    g = Graph("frame_deadline")
    g.add(inner, timeout=SOON_S)
    g.node(name="describe")(describe)
    link(g, "inner")
    g.on_error("inner", "describe")
    g.edge("describe", END)
    return g


def retry_exhausted() -> Graph:
    g = Graph("retry_exhausted")
    g.node(name="fails", retry=QUICK)(fail)
    link(g, "fails")
    return g


def retry_gives_up() -> Graph:
    g = Graph("retry_gives_up")

    @g.node(retry=Retry(attempts=9, initial=0.001, give_up_on=(PermissionError,)))
    async def refuses(ctx, value):
        raise PermissionError(value) if ctx.attempt == 3 else OSError(ctx.attempt)

    link(g, refuses)
    return g


def unknown_route() -> Graph:
    g = Graph("unknown_route")
    g.node(name="look")(lambda value: value)
    g.edge(START, "look")
    g.branch("look", lambda value: "nowhere", {"end": END})
    return g


# Limits.


def _endless(name: str, **limits: int) -> Graph:
    g = Graph(name, limits=Limits(**limits))
    g.node(name="step")(lambda value: value + 1)
    g.edge(START, "step")
    g.branch("step", lambda value: "again", {"again": "step", "end": END})
    return g


def too_many_steps() -> Graph:
    return _endless("too_many_steps", max_steps=7)


def too_many_visits() -> Graph:
    return _endless("too_many_visits", max_visits=7)
