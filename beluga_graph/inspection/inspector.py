"""`Inspector`: reads the runs of a store without driving any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from beluga_graph.errors import RunNotFound
from beluga_graph.execution.run_ids import check_run_id
from beluga_graph.inspection.approvals import Question, pending_questions
from beluga_graph.inspection.compatibility import assess_run, assess_runs
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.reading import list_runs, list_steps, read_plan, read_replay, read_snapshot, read_trace
from beluga_graph.inspection.schedules import ScheduleInfo, list_schedules
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo
from beluga_graph.plan.compatibility import JudgedChange
from beluga_graph.plan.plan import Compilable
from beluga_graph.storage.loading import detect_deletion, read_run_record
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Format, Theme
    from beluga_graph.inspection.commands import Commands
    from beluga_graph.inspection.comparison import RunComparison
    from beluga_graph.inspection.explanation import Driving
    from beluga_graph.inspection.run_tree import RunTree
    from beluga_graph.inspection.signal_waits import SignalWait
    from beluga_graph.inspection.waits import RunWaits
    from beluga_graph.inspection.why import Why
    from beluga_graph.kernel.shape import Shape
    from beluga_graph.trace.trace import Trace

__all__ = ["Inspector"]


class Inspector:
    """Reads the runs of a store. Known flows let it decode their classes and compare their graphs."""

    def __init__(self, store: Store, flows: FlowRegistry) -> None:
        self.store = store
        self._flows = flows

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run on disk. Raises `RunNotFound`."""
        return RunStatus(read_run_record(self.store, check_run_id(run_id)).status)

    async def runs(self) -> list[RunInfo]:
        """Return a line about each run of the store, in an order that is arbitrary but stable."""
        return await list_runs(self.store)

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the committed steps of a run, in order. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return await list_steps(self.store, head, self._flows.plan_or_shape(head))

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return read_snapshot(self.store, head, self._flows.plan_or_shape(head), seq)

    async def draw(
        self,
        run_id: str,
        *,
        format: Format | Literal["html"] = "svg",  # noqa: A002 - a public name
        depth: int | None = None,
        seq: int | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw a run over its graph: which nodes it visited, how often and for how long, and which are waiting.

        Shows the run as of step `seq`, the last by default; `depth` and `theme` are as for a flow. Needs no code of
        the flow. Raises `RunNotFound`, `DamagedRecord`; `ValueError` for an unknown format, depth or theme.
        """
        from beluga_graph.draw.render import render  # noqa: PLC0415 - drawing is loaded when it is needed

        if format == "html":
            if (depth, seq, theme) != (None, None, "auto"):
                msg = "the html page shows all steps, at all depths, in both themes: leave depth, seq and theme out"
                raise ValueError(msg)
            return await self.html(run_id)
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            trail = read_trace(self.store, head, read_plan(self.store, head).shape, seq, keep=False)
        return render(trail.shape, format, depth=depth, trace=trail, theme=theme)

    async def trail(self, run_id: str, seq: int | None = None) -> Trace:
        """Return the trace of a run up to step `seq`, the last by default: each visit of a node, each edge taken.

        Raises `RunNotFound`, `DamagedRecord`.
        """
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return read_trace(self.store, head, read_plan(self.store, head).shape, seq)

    async def tree(self, run_id: str, *, depth: int | None = None, unfolded: bool = False) -> RunTree:
        """Return the visits of a run as a tree, with their results.

        `depth` limits how deep it goes into frames and fan-outs. Long rows of visits and wide fan-outs are folded
        unless `unfolded`. Needs no code of the flow. Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.run_tree import read_run_tree  # noqa: PLC0415 - loaded when it is needed

        with detect_deletion(self.store, check_run_id(run_id)):
            return read_run_tree(self.store, read_run_record(self.store, run_id), depth=depth, unfolded=unfolded)

    async def shape(self, run_id: str) -> Shape:
        """Return the graph of a run as it is stored, without code. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            return read_plan(self.store, read_run_record(self.store, run_id)).shape

    async def waits(self, run_id: str) -> RunWaits | None:
        """Return the waits of a parked run; `None` for a run that is not parked, or that waits only for a retry.

        Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.waits import read_waits  # noqa: PLC0415 - loaded when it is needed

        return read_waits(self.store, check_run_id(run_id))

    async def why(self, run_id: str, driving: Driving, commands: Commands, *, now_ms: int) -> Why:
        """Return why a run does not go on, given who drives it. Raises `RunNotFound`, `DamagedRecord`."""
        from beluga_graph.inspection.explained_run import explain_run  # noqa: PLC0415 - loaded when it is needed

        with detect_deletion(self.store, check_run_id(run_id)):
            return await explain_run(self.store, read_run_record(self.store, run_id), driving, commands, now_ms)

    async def html(self, run_id: str) -> str:
        """Return a page that replays a run: one HTML file that needs no other file and no network.

        It has the graph with a scrubber over all steps, the values and the state at each, a timeline, the events and a
        search. It holds the run as of its last committed step, the same bytes each time. A value is cut after 4,000
        characters; after 6 million characters in all, values are left out, and the page says so. Needs no code of the
        flow. Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.draw.page import render_page  # noqa: PLC0415 - drawing is loaded when it is needed

        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            plan = read_plan(self.store, head)
            return render_page(plan.shape, *read_replay(self.store, head, plan))

    async def compare(self, first: str, second: str) -> RunComparison:
        """Compare two runs as of their last steps: where their paths diverge, and how their results differ.

        Best for a run and its fork, which share the history before the fork, or for two runs of one flow. Of runs of
        different flows, nodes and fields with the same name are compared. Needs no code of the flow.
        Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.comparing import compare_runs  # noqa: PLC0415 - loaded when it is needed

        gone: set[str] = {check_run_id(first), check_run_id(second)}
        while True:
            try:
                with detect_deletion(self.store, first), detect_deletion(self.store, second):
                    heads = read_run_record(self.store, first), read_run_record(self.store, second)
                    return compare_runs(
                        self.store, heads, (self._flows.plan_or_shape(heads[0]), self._flows.plan_or_shape(heads[1]))
                    )
            except RunNotFound as error:
                if error.run_id in gone:
                    raise
                gone.add(error.run_id)  # a source of a fork was deleted meanwhile: compare the history that is left

    async def difference(
        self, run_id: str, flow: Compilable | None = None, *, rename: Mapping[str, str] | None = None
    ) -> tuple[JudgedChange, ...]:
        """Return the changes from the graph of a run to a flow, each with its consequence for the run.

        By default, the flow is the registered one. A run continues with a flow if every change is `safe` for the run.
        `rename` names renamed nodes, as in `Engine.resume`.
        Raises `RunNotFound`, `RunConflict` for another flow, `BadRename`.
        """
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            plan = flow.plan() if flow is not None else self._flows.plan_of(head)
            return assess_run(self.store, head, plan, tuple((rename or {}).items()))

    async def check(self, flow: Compilable) -> dict[str, tuple[JudgedChange, ...]]:
        """Return the unsafe changes for each unfinished run of a flow, failed runs included.

        Call it before a changed flow is deployed: a run with no such change continues. For a run of another version of
        the flow, which is not registered, the version is such a change. Raises `DamagedRecord`.
        """
        return await assess_runs(self.store, flow.plan(), lambda flow_id: self._flows.find(flow_id) is not None)

    async def schedules(self) -> list[ScheduleInfo]:
        """Return the schedules of the store, sorted by name. Raises `DamagedRecord`."""
        return await list_schedules(self.store, self._flows.find)

    async def pending(self) -> list[Question]:
        """Return the pending questions of all runs of the store, the oldest first. Raises `DamagedRecord`."""
        return await pending_questions(self.store, self._flows.plan_or_shape)

    async def pending_and_waits(self) -> list[Question | SignalWait]:
        """Return the pending questions and the waits for signals of all runs, the oldest first.

        It reads every unfinished run. Raises `DamagedRecord`.
        """
        from beluga_graph.inspection.signal_waits import list_signal_waits, sort_pending  # noqa: PLC0415 - as above

        return sort_pending([*await self.pending(), *await list_signal_waits(self.store)])

    async def signal_waits(self, run_id: str) -> list[SignalWait]:
        """Return the waits of one run for signals. Raises `RunNotFound`, `DamagedRecord`."""
        from beluga_graph.inspection.signal_waits import read_signal_waits  # noqa: PLC0415 - as above

        return await read_signal_waits(self.store, read_run_record(self.store, check_run_id(run_id)))
