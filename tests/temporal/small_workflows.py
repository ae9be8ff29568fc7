"""Two small workflows, in a module without other imports: Temporal's sandbox imports it again for each run."""

import asyncio

from temporalio import workflow

__all__ = ["Greeting", "Pausing"]


@workflow.defn
class Greeting:
    """Waits for a name and returns a greeting."""

    def __init__(self) -> None:
        self._name = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self._name != "")
        return f"Hello, {self._name}!"

    @workflow.signal
    def name(self, name: str) -> None:
        self._name = name


@workflow.defn
class Pausing:
    """Pauses for some days and returns how many have passed."""

    @workflow.run
    async def run(self, days: int) -> int:
        began = workflow.now()
        await asyncio.sleep(days * 24 * 3600)
        return (workflow.now() - began).days
