"""beluga_graph: agents and workflows as graphs that survive anything.

Build a flow:      Graph, Workflow (step, wait_signal, sleep), Agent (tool, handoff_to),
                   SequentialAgent, ParallelAgent, LoopAgent
Run it:            Engine (start, execute, stream, resume, serve), run_sync
At points in time: Engine.schedule, schedules, pause, unpause, unschedule
Talk to a run:     Run, Engine.signal, Engine.pending, Engine.answer, Engine.cancel
Look at it:        Engine.why, runs, history, snapshot, trail, compare, draw, html
Travel in time:    Engine.fork
Publish events:    EventBus, Context.publish
On Temporal:       beluga_graph.temporal (TemporalEngine, with the methods of Engine, and its workers)
Store:             a path for the Engine, or stores.LMDBStore, stores.MemoryStore
Models:            beluga_graph.models (OpenAIModel, AnthropicModel, Model)
Test:              beluga_graph.testing (ScriptedModel, VirtualClock)
Events, errors:    beluga_graph.events, beluga_graph.errors

The README begins with a first program, `examples/guide` continues from there, and `ARCHITECTURE.md` in this folder
describes the code.
"""

import lazy_loader

# A name is loaded when it is first used: who draws a graph should not pay for the engine.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
