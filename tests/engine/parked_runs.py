"""Runs that wait for a signal, and a helper that waits until an engine has parked them."""

from wrapped_store import until

from beluga_graph import Engine, Workflow, step, wait_signal

__all__ = ["HOUR", "asking", "parked"]

HOUR = 3600


def asking(name: str = "asking") -> Workflow:
    return Workflow(name, step("before", lambda v: v), wait_signal("go"), step("after", lambda v: ("after", v)))


async def parked(engine: Engine, count: int = 1) -> None:
    """Wait until only the keys of the engine's runs are left in memory."""
    await until(lambda: not engine._host.runs.actives and len(engine._host.waker._watched) == count)
