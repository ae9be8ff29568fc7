"""beluga_graph: agents and workflows as graphs that survive anything.

The map of the house. An arrow may only point down:

    doors       cli/  demo/  testing/  bus/
    5 flows     agents/ (agent tools handoffs turn conversation)  flows/ (graph sequential parallel loop
                workflow)
    4 walker    engine (the user's object)  run  admission  takeover  scheduler (the only module that creates tasks)
                parking  seat  inbox  outbox  live  agenda  fork  inspector  post  questions  recovery  serving
                pruning  forgetting  watch  given  note  inspection  walk  comparison
    3 hands     executor  answers  attempt  state  context  history  session  lease  committer  adoption  past
                threads  disk  forms  published  recent  pace
    2 models/   (messages openai anthropic)
      draw/     (picture: what there is to draw; trail: what a run did; a module for each format; the replay page)
    1 meaning   plan/ (compile passes)  events  codec/  kernel/ (shape snapshot triggers; and the rules:
                transition: advance, work; pure: no I/O, clock, randomness, asyncio or user code)
    0 words     graph  reducers  policy  clock  topics  errors
    ground      stores/ (base, memory, lmdb)

A flow compiles to a plan: its shape (data) and its bindings (code). A run is a snapshot. One pure function,
`advance(shape, snapshot, trigger) -> patch`, decides everything that ever happens to a run; `apply(patch)` is
the only way a snapshot changes; one commit writes each step. To resume is to load the snapshot, ask what a
live run must be doing, and do it.
"""

import lazy_loader

# A name is loaded when it is first used: who draws a graph should not pay for the engine.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
