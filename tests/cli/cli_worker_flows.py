"""Flows for the tests of workers, and the resources that their nodes use."""

from beluga_graph import Context, Workflow, step

__all__ = ["measuring", "measuring_again", "publishing", "units"]

units = "characters"


@step("measure")
async def measure(ctx: Context, text: str) -> str:
    return f"{text} {len(text)} {ctx.deps}"


measuring = Workflow("measuring", measure)
measuring_again = Workflow("measuring", measure)


@step("publish")
async def publish(ctx: Context, number: int) -> int:
    for each in range(number):
        ctx.publish("orders.made", each)
    return number


publishing = Workflow("publishing", publish)
