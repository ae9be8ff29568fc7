"""Flows of the parity tests that wait for times, signals and people."""

from parity_graphs import SOON_S, describe, hang, link
from parity_values import Notes, Order

from beluga_graph import END, Failure, Graph, Retry, Workflow, sleep, step, wait_signal

__all__ = [
    "approval",
    "approval_handled",
    "approvals_of_branches",
    "deadline_during_a_node",
    "deadline_during_a_pause",
    "default_of_a_wait",
    "hanging",
    "parallel_waits",
    "pauses",
    "three_waits",
    "timeout_of_a_wait",
    "typed_wait",
    "waiting_in_vain",
    "whole_workflow",
]

LONG_S = 3_600.0


# Times and signals.


def pauses() -> Graph:
    g = Graph("pauses")
    g.timer("short", 0.01)
    g.timer("none", 0)
    g.timer("after", 0.02)
    g.node(name="show")(str)
    g.fan_out("both", to=["short", "none"], join="in")
    g.join("in")
    link(g, "both", "in", "after", "show")
    return g


def deadline_during_a_pause() -> Workflow:
    return Workflow("deadline_during_a_pause", sleep("long", LONG_S), step("never", hang), timeout=SOON_S)


def deadline_during_a_node() -> Workflow:
    return Workflow("deadline_during_a_node", step("hang", hang), timeout=SOON_S)


def three_waits() -> Graph:
    g = Graph("three_waits")
    names = [f"wait{i}" for i in range(3)]
    for name in names:
        g.wait(name, "s")
    link(g, *names)
    return g


def parallel_waits() -> Graph:
    """Return three branches that wait for one signal, each in its first node."""
    g = Graph("parallel_waits")
    names = [f"wait{i}" for i in range(3)]
    for name in names:
        g.wait(name, "s")
    g.fan_out("three", to=names, join="in")
    g.join("in")
    link(g, "three", "in")
    return g


def default_of_a_wait() -> Graph:
    g = Graph("default_of_a_wait")
    g.wait("answer", "s", timeout=SOON_S, default="nobody came")
    g.node(name="show")(lambda value: [value])
    link(g, "answer", "show")
    return g


def timeout_of_a_wait() -> Graph:
    g = Graph("timeout_of_a_wait")
    g.wait("answer", "s", timeout=SOON_S)
    g.node(name="describe")(describe)
    link(g, "answer")
    g.on_error("answer", "describe")
    g.edge("describe", END)
    return g


def waiting_in_vain() -> Graph:
    g = Graph("waiting_in_vain")
    g.wait("answer", "s", timeout=SOON_S)
    link(g, "answer")
    return g


def typed_wait() -> Graph:
    g = Graph("typed_wait")
    g.wait("order", "s", type=Order, timeout=LONG_S)
    g.node(name="show")(lambda order: f"{order.amount} to {order.to}")
    link(g, "order", "show")
    return g


def hanging() -> Graph:
    g = Graph("hanging")
    g.node(name="hang")(hang)
    link(g, "hang")
    return g


def whole_workflow() -> Workflow:
    inner = Graph("inner")
    inner.node(name="first")(lambda value: [*value, "first"])
    inner.node(name="second")(lambda value: [*value, "second"])
    link(inner, "first", "second")

    @step("flaky", retry=Retry(attempts=3, initial=0.001), timeout=LONG_S)
    async def flaky(ctx, value):
        if ctx.attempt < 3:
            raise ConnectionError(ctx.attempt)
        return [*value, ctx.attempt]

    @step
    def note(ctx, signal):
        ctx.update(notes=["noted"], total=3)
        return [signal, list(ctx.state.notes), ctx.state.total]

    return Workflow(
        "whole_workflow",
        flaky,
        step("inner", inner, timeout=LONG_S),
        sleep("rest", 0.01),
        wait_signal("receipt", type=str),
        note,
        timeout=LONG_S,
        state=Notes,
    )


# People.


async def pay(order: Order) -> str:
    return f"paid {order.amount} to {order.to}"


def approval() -> Workflow:
    return Workflow("approval", step("pay", pay, requires_approval=True))


def approval_handled() -> Graph:
    g = Graph("approval_handled")
    g.node(name="pay", requires_approval=True, retry=Retry(attempts=5, initial=0))(pay)
    g.node(name="describe")(describe)
    link(g, "pay")
    g.on_error("pay", "describe")
    g.edge("describe", END)
    return g


def approvals_of_branches() -> Graph:
    """Return a branch for each amount. A person is asked about amounts over 10."""
    g = Graph("approvals_of_branches", types=(Order,))

    @g.node(requires_approval=lambda amount: amount > 10)
    async def spend(amount):
        return f"spent {amount}"

    @g.node
    async def show(results):
        return [f"{result.type} {result.item}" if isinstance(result, Failure) else result for result in results]

    g.fan_out("each", to=spend, over=lambda amounts: amounts, join="all")
    g.join("all", on_error="collect")
    link(g, "each", "all", show)
    return g
