"""A program that records histories of workflows on a new server, with what they replay to.

    python tests/temporal/record_histories.py [NAME ...]

Without names, it records all that have no history yet.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("shared", "crash")]

from histories import FOLDER, OTHERS, PATTERNS, read_histories, show_replayed
from parity_flows import ENTRY_BY_NAME, Deps
from publishing_flow import make_flow
from recording import record
from servers import dev_server
from sessions_flows import Gate, make_desk
from temporalio.client import Client, WorkflowHistory
from worker_processes import change_options

from beluga_graph import EventBus, RunFailed
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.client import sessions
from beluga_graph.temporal.connection.history import read_execution
from beluga_graph.temporal.mirror.recording import export_history
from beluga_graph.temporal.workflow.server_names import outbox_workflow_id, session_workflow_id
from beluga_graph.temporal.workflow.wire import ADD_MESSAGES

QUEUE = "histories"


async def record_one(address: str, name: str) -> None:
    """Record one workflow."""
    if name == "outbox":
        histories = await _record_outbox(address)
    elif name == "session":
        histories = await _record_session(address)
    else:
        histories = await _record_run(address, name)
    FOLDER.mkdir(exist_ok=True)
    packed = json.dumps([history.to_json_dict() for history in histories], separators=(",", ":")).encode()
    (FOLDER / f"{name}.json.gz").write_bytes(gzip.compress(packed, mtime=0))
    shown = [await show_replayed(name, history) for history in read_histories(name)]
    (FOLDER / f"{name}.golden.json").write_text(json.dumps(shown, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"recorded {name}: {sum(len(history.events) for history in histories)} events")


async def _record_run(address: str, name: str) -> list[WorkflowHistory]:
    pattern = PATTERNS[name]
    entry = ENTRY_BY_NAME[pattern.entry]
    engine = TemporalEngine(address, task_queue=token_hex(4), durability=pattern.durability, deps=Deps())
    with pytest.MonkeyPatch.context() as patch:
        change_options(patch, **pattern.options)
        async with engine, engine.worker([entry.flow()]):
            recorded = await record(engine, entry, run_id=name)
            assert recorded.status is entry.ends
            return await export_history(await engine._host.connection.client(), name)


async def _record_outbox(address: str) -> list[WorkflowHistory]:
    """Record an outbox that gets all messages of a run before a bus is there, one batch of them twice."""
    with pytest.MonkeyPatch.context() as patch:
        change_options(patch, announces=True)
        async with TemporalEngine(address, task_queue=QUEUE) as engine, engine.worker([make_flow()]):
            await engine.execute(make_flow(), 1, run_id="published")
            created_ms = (await engine._host.workflows.describe("published")).created_ms
    client = await Client.connect(address)
    handle = client.get_workflow_handle(outbox_workflow_id("published", created_ms))
    events = (await handle.fetch_history()).events
    signals = [event.workflow_execution_signaled_event_attributes for event in events]
    batches = [signal.input.payloads[0].data for signal in signals if signal.signal_name == ADD_MESSAGES]
    await handle.signal(ADD_MESSAGES, batches[-1])
    async with (
        EventBus() as bus,
        TemporalEngine(address, task_queue=QUEUE, bus=bus) as engine,
        engine.worker([make_flow()]),
    ):
        await handle.result()
    return await _export(client, handle.id)


async def _record_session(address: str) -> list[WorkflowHistory]:
    """Record a session that continues as new after each run. The last run fails."""
    gate = Gate()
    desk = make_desk(gate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_CONTINUE_EVENTS", 1)
        async with TemporalEngine(address, task_queue=QUEUE) as engine, engine.worker([desk]):
            for question in ("one", "bill", "two"):
                await engine.execute(desk, question, session="s")
            gate.fails = True
            with pytest.raises(RunFailed):
                await engine.execute(desk, "three", session="s")
    return await _export(await Client.connect(address), session_workflow_id(QUEUE, desk.name, "s"))


async def _export(client: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Return the histories of a workflow's executions, the first one first."""
    found: list[WorkflowHistory] = []
    execution_id = (await client.get_workflow_handle(workflow_id).describe()).run_id
    while execution_id:
        execution = await read_execution(client, workflow_id, execution_id)
        found.append(execution.history)
        execution_id = execution.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return found[::-1]


async def _main(names: list[str]) -> None:
    with TemporaryDirectory() as folder, dev_server(Path(folder)) as server:
        for name in names or [name for name in (*PATTERNS, *OTHERS) if not (FOLDER / f"{name}.json.gz").exists()]:
            await record_one(server.address, name)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
