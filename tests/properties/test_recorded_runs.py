"""A recorder writes the records of a run log, for every graph and every order of completion."""

from __future__ import annotations

import asyncio

from effort import examples
from graph_specs import Spec, racy_specs
from graphs import build
from hypothesis import given
from simulation import Disk, Origin, Simulation, Step, Tape, tapes

from beluga_graph.inspection.recorder import RunRecorder
from beluga_graph.kernel.triggers import RunStarted, Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.kernel.work import WorkChange
from beluga_graph.plan import Plan
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore

COMPARED = (Prefix.SNAPSHOT, Prefix.STEP, Prefix.ITEM, Prefix.VALUE, Prefix.MARK_BY_VALUE, Prefix.MARK_BY_RUN)


class Recorded(Simulation):
    """A simulated run that is recorded while it goes on."""

    def __init__(self, plan: Plan, tape: Tape) -> None:
        super().__init__(plan, Disk(), tape)
        self.target = MemoryStore()
        self.recorder: RunRecorder

    def write(self, trigger: Trigger, patch: Patch, origin: Origin | None) -> Step:
        if isinstance(trigger, RunStarted):
            self.recorder = RunRecorder(self.target, self.plan.shape, self.run, at_ms=0)
            self.recorder.begin()
        step = super().write(trigger, patch, origin)
        self.recorder.write(trigger, patch, origin[0] if origin else None, at_ms=self.time)
        return step

    def commit(self, step: Step, change: WorkChange) -> None:
        self.recorder.commit()
        super().commit(step, change)


@examples(120)
@given(racy_specs(), tapes())
def test_a_recorder_writes_the_records_of_the_run_log(spec: Spec, tape: list[int]) -> None:
    disk = Disk()
    simulation = Recorded(build(spec, disk.probe).plan(), Tape(tape))
    asyncio.run(simulation.whole(7))
    simulation.recorder.flush()
    target, expected = simulation.target, simulation.disk.store
    for prefix in COMPARED:
        assert dict(target.scan(prefix)) == dict(expected.scan(prefix))
    assert dict(target.scan(Prefix.TIMER)) == dict(expected.scan(Prefix.TIMER))
    assert verify_store(target).damage == ()
