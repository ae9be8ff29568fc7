"""A workflow that parks until a person approves of a payment: from another terminal, minutes or months later.

python examples/approval.py --store runs                                   starts it; parks, until the answer comes
beluga-graph pending --store runs                                          what is asked
python examples/approval.py --store runs answer RUN QUESTION approve       or reject, or modify JSON

Kill the first one whenever you like, and start it again: it goes on where it was. Without --store the program
answers itself.
"""

import argparse
import asyncio
import json

from pydantic import BaseModel

from beluga_graph import Engine, RunFailed, Workflow, step


class Payment(BaseModel):
    """Money for somebody."""

    to: str
    amount: int


def is_large(payment: Payment) -> bool:
    """Tell whether a person has to look at it."""
    return payment.amount > 100


@step("check")
async def check(payment: Payment) -> Payment:
    """Round the amount to what the bank takes."""
    return payment.model_copy(update={"amount": round(payment.amount, -1)})


@step("pay", requires_approval=is_large)
async def pay(payment: Payment) -> str:
    """Pay."""
    return f"paid {payment.amount} to {payment.to}"


payment = Workflow("payment", check, pay)


async def run(store: str | None) -> None:
    """Start the workflow, or go on with it, and wait for its end."""
    async with Engine(store) as engine:
        run = await engine.start(payment, Payment(to="ada", amount=1234), run_id="payment-1")
        async for event in run.events():
            if event.type == "waiting":
                print(f"may {event.token} have {event.output}?", flush=True)
                if store is None:
                    await engine.answer(run.id, event.token, "modify", {"to": "ada", "amount": 50})
        try:
            print(await run.result())
        except RunFailed as error:
            print(error.cause)


async def answer(store: str, run_id: str, question: str, decision: str, value: str | None) -> None:
    """Answer a question of a run, whether it is being driven or not."""
    more = {} if value is None else {"value": json.loads(value)}
    async with Engine(store) as engine:
        await engine.answer(run_id, question, decision, **more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a folder for the runs")
    parser.add_argument("answer", nargs="*", help="answer RUN QUESTION approve|reject|modify [JSON]")
    given = parser.parse_args()
    if given.answer and (len(given.answer) not in (4, 5) or given.store is None):
        parser.error("answer takes RUN QUESTION approve|reject|modify [JSON], and --store PATH")
    if given.answer:
        asyncio.run(answer(given.store, *given.answer[1:4], value=given.answer[4] if given.answer[4:] else None))
    else:
        asyncio.run(run(given.store))
