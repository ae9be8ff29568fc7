"""beluga_graph: agents and workflows as graphs that survive anything.

The packages, lowest first; a package imports itself and the rows below it:

    cli
    testing  demo
    agents
    flows
    engine  bus
    runtime  inspection
    storage
    execution  draw
    plan  models
    events  topics  trace
    kernel  codec
    errors  clock  policy  reducers
    stores (a package beside this one)

A flow compiles to a plan: its shape (data) and its bindings (code). A run is a snapshot. One pure function,
`advance(shape, snapshot, trigger) -> patch`, decides everything that ever happens to a run; `apply(patch)` is
the only way a snapshot changes; one commit writes each step. To resume is to load the snapshot, ask what a
live run must be doing, and do it.
"""

import lazy_loader

# A name is loaded when it is first used: who draws a graph should not pay for the engine.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
