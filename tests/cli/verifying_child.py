"""A process that forks for each line it reads, `verify PATH` or `use PATH`, and reports how the fork ended."""

import asyncio
import json
import os
import sys
from pathlib import Path

from beluga_graph import END, START, Engine, Graph
from beluga_graph.cli.app import app
from stores import LMDBStore, Put, StoreError

__all__: list[str] = []


def verify(path: str) -> int:
    try:
        app(["verify", "--store", path])
    except SystemExit as error:
        return int(error.code or 0)
    return 99


def use(path: str) -> int:
    """Use the store like an engine: list all runs, read every record, write, and run a flow."""
    flow = Graph("used")
    flow.add(lambda value: value, name="node")
    flow.edge(START, "node")
    flow.edge("node", END)

    async def call() -> None:
        async with Engine(path) as engine:
            await engine.runs()
            await engine.execute(flow, 1)

    try:
        asyncio.run(call())
        store = LMDBStore(path)
        store.commit(*(Put(key, blob) for key, blob in list(store.scan(b""))))
        store.close()
    except StoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> None:
    for line in sys.stdin:
        command, path = line.split()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            said = os.open(f"{path}/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = (verify if command == "verify" else use)(path)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        said_text = Path(path, "said").read_text(errors="replace")
        print(json.dumps([os.waitstatus_to_exitcode(status), said_text]), flush=True)


if __name__ == "__main__":
    main()
