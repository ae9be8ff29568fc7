"""An approval: a workflow waits until a person approves a payment, from another terminal, minutes or months later.

python examples/approval.py --store runs                                   start the run, which waits for an answer
beluga-graph pending --store runs                                          list the pending questions
python examples/approval.py --store runs answer RUN QUESTION approve       or reject, or modify JSON

Kill the first program whenever you like, and start it again: the run continues where it was. Without --store the
program answers its own question.
"""

import argparse
import asyncio
import json

from pydantic import BaseModel

from beluga_graph import Engine, RunFailed, Workflow, step


class Payment(BaseModel):
    """A payment to a person."""

    to: str
    amount: int


def is_large(payment: Payment) -> bool:
    """Return whether the payment needs an approval."""
    return payment.amount > 100


@step("check")
async def check(payment: Payment) -> Payment:
    """Round the amount to the nearest ten."""
    return payment.model_copy(update={"amount": round(payment.amount, -1)})


@step("pay", requires_approval=is_large)
async def pay(payment: Payment) -> str:
    """Pay the amount. Runs only after the approval, if one is required."""
    return f"paid {payment.amount} to {payment.to}"


payment = Workflow("payment", check, pay)


async def run(store: str | None) -> None:
    """Start or continue the workflow, and wait until it ends."""
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
    """Answer a question of a run, which need not be running in any process."""
    more = {} if value is None else {"value": json.loads(value)}
    async with Engine(store) as engine:
        await engine.answer(run_id, question, decision, **more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="folder of the store")
    parser.add_argument("answer", nargs="*", help="answer RUN QUESTION approve|reject|modify [JSON]")
    given = parser.parse_args()
    if given.answer and (len(given.answer) not in (4, 5) or given.store is None):
        parser.error("answer takes RUN QUESTION approve|reject|modify [JSON], and --store PATH")
    if given.answer:
        asyncio.run(answer(given.store, *given.answer[1:4], value=given.answer[4] if given.answer[4:] else None))
    else:
        asyncio.run(run(given.store))
