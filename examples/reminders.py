"""A reminder at a time that the user names. While it waits, a signal changes or cancels it.

python examples/reminders.py                                   a day with three reminders passes in a moment
python examples/reminders.py --store runs start 60 "call Ada"  remind in a minute; kill it, and start it again
python examples/reminders.py --store runs change 5 "call Bob"  from another terminal: remind in five seconds instead
python examples/reminders.py --store runs cancel               do not remind at all
"""

import argparse
import asyncio
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from beluga_graph import END, START, Context, Engine, Graph, RunError
from beluga_graph.testing import VirtualClock


class Reminder(BaseModel):
    """A text, and when to show it."""

    text: str
    at: datetime


reminder = Graph("reminder")
wait = reminder.timer("wait", until=lambda given: given.at)  # asked once for each reminder, whatever crashes


@reminder.node
async def remind(ctx: Context, due: Reminder) -> str:
    """Show the text. A real program would send a message with `ctx.idempotency_key`."""
    return f"{ctx.now():%H:%M} {due.text}"


reminder.edge(START, wait)
reminder.edge(wait, remind)
reminder.edge(remind, END)
reminder.on_signal(wait, "change", wait, type=Reminder)  # begins to wait again, with the new reminder
reminder.on_signal(wait, "cancel", END, type=str)  # ends with the reason


async def simulate() -> None:
    """Let a day pass: one reminder comes as planned, one is changed, one is cancelled."""
    noon = datetime(2030, 1, 31, 12, tzinfo=UTC)
    clock = VirtualClock(round((noon - timedelta(hours=4)).timestamp() * 1000))
    async with Engine(clock=clock) as engine:
        kept, changed, cancelled = [await engine.start(reminder, Reminder(text="call Ada", at=noon)) for _ in range(3)]
        await clock.advance(3600)
        await changed.signal("change", Reminder(text="call Ada and Bob", at=noon + timedelta(hours=5, minutes=30)))
        await cancelled.signal("cancel", "cancelled: she called")
        await clock.advance(24 * 3600)
        print(*[await run.result() for run in (kept, changed, cancelled)], sep="\n")


async def act(store: str, verb: str, seconds: float, text: str, run_id: str = "reminder-1") -> None:
    """Start or continue the reminder; or change or cancel it, while another process waits for its time."""
    given = Reminder(text=text, at=datetime.now(UTC) + timedelta(seconds=seconds))
    async with Engine(store) as engine:
        engine.register(reminder)
        if verb == "start":
            is_known = any(run.run_id == run_id for run in await engine.runs())
            run = await (engine.resume(run_id) if is_known else engine.start(reminder, given, run_id=run_id))
            print(await run.result())
        else:
            await engine.signal(run_id, verb, given if verb == "change" else text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="folder of the store")
    parser.add_argument("verb", nargs="?", default="start", choices=["start", "change", "cancel"])
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("text", nargs="?", default="call Ada")
    given = parser.parse_args()
    try:
        asyncio.run(simulate() if given.store is None else act(given.store, given.verb, given.seconds, given.text))
    except RunError as error:  # as when a change comes after the end
        raise SystemExit(str(error)) from None
