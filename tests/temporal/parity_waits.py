"""Flows of the parity tests that wait for times, signals and people."""

from datetime import UTC, datetime, timedelta

from parity_graphs import LATER_S, QUICK, SOON_S, describe, hang, link
from parity_values import Notes, Order

from beluga_graph import END, START, Failure, Graph, Retry, Workflow, sleep, step, wait_signal

__all__ = [
    "approval",
    "approval_handled",
    "approvals_of_branches",
    "checked_wait_of_a_decided_time",
    "deadline_during_a_node",
    "deadline_during_a_pause",
    "decided_deadlines",
    "decided_limit_of_a_join",
    "decided_limit_of_a_node",
    "decided_pauses",
    "default_of_a_wait",
    "hanging",
    "interrupted_branches",
    "interrupted_graph",
    "interrupted_in_a_sub_flow",
    "interrupted_step",
    "interrupted_wait",
    "no_time",
    "parallel_waits",
    "pauses",
    "three_waits",
    "timeout_of_a_wait",
    "typed_wait",
    "waiting_in_vain",
    "whole_workflow",
]

LONG_S = 3_600.0
PAST = datetime(2020, 1, 1, tzinfo=UTC)


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


# Times that functions decide.


def decided_pauses() -> Graph:
    """Return a flow that pauses for times of each form, and then waits in vain."""
    g = Graph("decided_pauses")

    async def briefly(value):
        return timedelta(milliseconds=value)

    g.timer("constant", until=PAST)
    g.timer("seconds", lambda value: value / 1000)
    g.timer("async", briefly)
    g.timer("overdue", until=lambda ctx, value: ctx.now() - timedelta(days=value))
    g.wait("answer", "s", timeout=lambda value: value / 1000, default="nobody came")
    g.node(name="show")(str)
    g.fan_out("both", to=["seconds", "async"], join="in")
    g.join("in", lambda values: values[0])
    link(g, "constant", "both", "in", "overdue", "answer", "show")
    return g


def decided_limit_of_a_join() -> Graph:
    g = Graph("decided_limit_of_a_join")
    g.timer("pause", lambda item: item)
    g.fan_out("each", to="pause", over=lambda items: items, join="in")
    g.join("in", timeout=lambda items: LATER_S)
    link(g, "each", "in")
    return g


def decided_limit_of_a_node() -> Graph:
    g = Graph("decided_limit_of_a_node")
    g.node(name="hang", retry=QUICK, timeout=lambda value: value)(hang)
    g.node(name="describe")(describe)
    link(g, "hang")
    g.on_error("hang", "describe")
    g.edge("describe", END)
    return g


def decided_deadlines() -> Graph:
    """Return a flow with a deadline of its own, and a frame within it, begun twice, whose deadline passes."""
    within = Workflow("within", wait_signal("s"), timeout=lambda value: LONG_S)
    g = Graph("decided_deadlines")
    g.add(
        within, retry=Retry(attempts=2, initial=0.01), timeout=lambda ctx, value: ctx.now() + timedelta(seconds=value)
    )
    g.node(name="show")(lambda failure: [failure.node, failure.type, failure.attempts, failure.input])
    link(g, "within")
    g.on_error("within", "show")
    g.edge("show", END)
    around = Graph("around")
    around.add(Workflow("whole", g, timeout=lambda value: LONG_S))
    link(around, "whole")
    return around


def checked_wait_of_a_decided_time() -> Graph:
    g = Graph("checked_wait_of_a_decided_time")
    g.wait("order", "s", type=Order, timeout=lambda value: LONG_S)
    g.node(name="show")(lambda order: f"{order.amount} to {order.to}")
    link(g, "order", "show")
    return g


def no_time() -> Graph:
    g = Graph("no_time")
    g.add(Workflow("within", wait_signal("s")), retry=QUICK, timeout=lambda value: -value)
    link(g, "within")
    return g


def hanging() -> Graph:
    g = Graph("hanging")
    g.node(name="hang")(hang)
    link(g, "hang")
    return g


def interrupted_step() -> Workflow:
    ship = step("ship", hang, on_signal={"cancel": step("refund", lambda why: f"refunded: {why}")})
    pay, tell = step("pay", lambda amount: f"paid {amount}"), step("tell", lambda text: [text])
    return Workflow("interrupted_step", pay, ship, tell)


def interrupted_wait() -> Graph:
    """Return a wait with a timeout and a pause in a sub-flow, which signals interrupt, one with a checked payload."""
    g, inner = Graph("interrupted_wait"), Graph("inner")
    inner.timer("long", LONG_S)
    link(inner, "long")
    g.wait("answer", "s", timeout=LONG_S)
    g.add(inner)
    g.node(name="show")(lambda order: f"{order.amount} to {order.to}")
    link(g, "answer", "inner", "show")
    g.on_signal("answer", "skip", "inner")
    g.on_signal("inner", "order", "show", type=Order)
    return g


def interrupted_branches() -> Graph:
    """Return a fan-out with a queue: signals end branches, one at a time; another one drops the others."""
    g = Graph("interrupted_branches")
    g.wait("answer", "never")
    g.node(name="skipped")(lambda value: f"skipped {value}")
    g.node(name="stopped")(lambda value: f"stopped {value}")
    g.fan_out("each", to="answer", over=range, join="in", max_concurrency=2)
    g.join("in")
    g.edge(START, "each")
    g.edge("answer", "in")
    g.edge("skipped", "in")
    g.edge("in", END)
    g.edge("stopped", END)
    g.on_signal("answer", "skip", "skipped")
    g.on_signal("each", "stop", "stopped")
    return g


def interrupted_in_a_sub_flow() -> Graph:
    """Return a graph where one signal interrupts a node, then its sub-flow, then the whole graph."""
    g, inner = Graph("interrupted_in_a_sub_flow"), Graph("inner")
    for graph, names in ((inner, ("hang", "again")), (g, ("outer",))):
        for name in names:
            graph.node(name=name)(hang)
    g.node(name="last")(lambda value: ["last", value])
    g.add(inner)
    link(inner, "hang")
    inner.edge("again", END)
    inner.on_signal("hang", "s", "again")
    link(g, "inner", "last")
    g.edge("outer", END)
    g.on_signal("inner", "s", "outer")
    g.on_signal(g, "s", "last")
    return g


def interrupted_graph() -> Graph:
    """Return a graph that plans again after each signal of a change, and ends with the third plan."""
    g = Graph("interrupted_graph")
    g.node(name="plan")(lambda value: value)
    g.node(name="work")(_work_on)
    link(g, "plan", "work")
    g.on_signal(g, "change", "plan")
    return g


async def _work_on(value: int) -> int:
    return value if value == 3 else await hang(value)


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
