"""A program that records histories of runs on a new server, with what they replay to.

    python tests/temporal/record_histories.py [NAME ...]

Without names, it records all patterns that have no history yet.
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

from histories import FOLDER, PATTERNS, read_histories, replay, show
from parity_flows import ENTRY_BY_NAME, Deps
from recording import record
from servers import dev_server
from worker_processes import change_options

from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.mirror.recording import export_history


async def record_one(address: str, name: str) -> None:
    """Record one pattern."""
    pattern = PATTERNS[name]
    entry = ENTRY_BY_NAME[pattern.entry]
    engine = TemporalEngine(address, task_queue=token_hex(4), durability=pattern.durability, deps=Deps())
    with pytest.MonkeyPatch.context() as patch:
        change_options(patch, **pattern.options)
        async with engine, engine.worker([entry.flow()]):
            recorded = await record(engine, entry, run_id=name)
            assert recorded.status is entry.ends
            histories = await export_history(await engine._connection.client(), name)
    FOLDER.mkdir(exist_ok=True)
    packed = json.dumps([history.to_json_dict() for history in histories], separators=(",", ":")).encode()
    (FOLDER / f"{name}.json.gz").write_bytes(gzip.compress(packed, mtime=0))
    shown = [show(await replay(history)) for history in read_histories(name)]
    (FOLDER / f"{name}.golden.json").write_text(json.dumps(shown, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"recorded {name}: {sum(len(history.events) for history in histories)} events")


async def _main(names: list[str]) -> None:
    with TemporaryDirectory() as folder, dev_server(Path(folder)) as server:
        for name in names or [name for name in PATTERNS if not (FOLDER / f"{name}.json.gz").exists()]:
            await record_one(server.address, name)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
