"""A flow with a node in TypeScript: `python examples/typescript_worker/flow.py good morning` translates the words.

It needs a Temporal server at `localhost:7233`, or at `$TEMPORAL_ADDRESS`, and the worker of `worker.mjs`. This program
serves the other nodes.
"""

import asyncio
import os
import sys

from beluga_graph import END, START, Graph, Retry
from beluga_graph.temporal import TemporalEngine

ADDRESS = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
NODE_QUEUES = {"translate": "translations"}  # the queue of worker.mjs

letter = Graph("letter")


@letter.node
def clean(text: str) -> str:
    return " ".join(text.lower().split())


@letter.node(retry=Retry(attempts=3, initial=0.01))
def translate(text: str) -> str:
    raise NotImplementedError("worker.mjs serves this node")


@letter.node
def sign(text: str) -> str:
    return f"{text}!"


letter.edge(START, clean)
letter.edge(clean, translate)
letter.edge(translate, sign)
letter.edge(sign, END)


async def main(text: str) -> None:
    async with TemporalEngine(ADDRESS, node_queues=NODE_QUEUES) as engine, engine.worker([letter]):
        print(await engine.execute(letter, text))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:])))
