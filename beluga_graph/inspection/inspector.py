"""`Inspector`: what can be asked of the runs in a store without driving any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from beluga_graph.errors import RunNotFound
from beluga_graph.inspection.approvals import Question, pending_questions
from beluga_graph.inspection.compatibility import broken_by, difference_for
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.reading import replay_of, run_infos, snapshot_of, steps_of, stored_plan, trail_of
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo
from beluga_graph.plan.compatibility import JudgedChange
from beluga_graph.plan.plan import Compilable
from beluga_graph.storage.keys import check_run_id
from beluga_graph.storage.loading import detect_deletion, read_run_record
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Format, Theme
    from beluga_graph.inspection.comparison import RunComparison
    from beluga_graph.inspection.run_tree import RunTree
    from beluga_graph.inspection.waits import RunWaits
    from beluga_graph.kernel.shape import Shape
    from beluga_graph.trace.trace import Trace

__all__ = ["Inspector"]


class Inspector:
    """Reads the runs of a store. Known flows let it decode their classes and compare their graphs."""

    def __init__(self, store: Store, flows: FlowRegistry) -> None:
        self.store = store
        self._flows = flows

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run that is on disk. Raises `RunNotFound`."""
        return RunStatus(read_run_record(self.store, check_run_id(run_id)).status)

    async def runs(self) -> list[RunInfo]:
        """Return all runs of the store, in no particular order but always the same."""
        return await run_infos(self.store)

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the committed steps of a run, in order. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return await steps_of(self.store, head, self._flows.plan_or_shape(head))

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return snapshot_of(self.store, head, self._flows.plan_or_shape(head), seq)

    async def draw(
        self,
        run_id: str,
        *,
        format: Format | Literal["html"] = "svg",  # noqa: A002 - the face's word
        depth: int | None = None,
        seq: int | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw a run over the graph that it stands in: what was reached, how often, for how long, and what waits.

        As of step `seq`, the last by default; `depth` and `theme` as for a flow. Needs none of the flow's code.
        Raises `RunNotFound`, `DamagedRecord`; `ValueError` for a format, depth or theme that there is not.
        """
        from beluga_graph.draw.render import render  # noqa: PLC0415 - drawing is loaded when one draws

        if format == "html":
            if (depth, seq, theme) != (None, None, "auto"):
                msg = "the html page shows all steps, at all depths, in both themes: leave depth, seq and theme out"
                raise ValueError(msg)
            return await self.html(run_id)
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            trail = trail_of(self.store, head, stored_plan(self.store, head).shape, seq, keep=False)
        return render(trail.shape, format, depth=depth, trace=trail, theme=theme)

    async def trail(self, run_id: str, seq: int | None = None) -> Trace:
        """Return what a run did up to step `seq`, the last by default: each visit of a node, each edge taken.

        Raises `RunNotFound`, `DamagedRecord`.
        """
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            return trail_of(self.store, head, stored_plan(self.store, head).shape, seq)

    async def tree(self, run_id: str, *, depth: int | None = None, unfolded: bool = False) -> RunTree:
        """Return the visits of a run as a tree, with their results.

        `depth` limits how deep it goes into frames and fan-outs. Long rows of visits and wide fan-outs are folded
        unless `unfolded`. Needs none of the flow's code. Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.run_tree import read_run_tree  # noqa: PLC0415 - loaded when one looks

        with detect_deletion(self.store, check_run_id(run_id)):
            return read_run_tree(self.store, read_run_record(self.store, run_id), depth=depth, unfolded=unfolded)

    async def shape(self, run_id: str) -> Shape:
        """Return the graph of a run as it is stored, without code. Raises `RunNotFound`, `DamagedRecord`."""
        with detect_deletion(self.store, check_run_id(run_id)):
            return stored_plan(self.store, read_run_record(self.store, run_id)).shape

    async def waits(self, run_id: str) -> RunWaits | None:
        """Return what a parked run waits for; `None` for a run that is not parked, or has only a retry to wait for.

        Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.waits import read_waits  # noqa: PLC0415 - loaded when one looks

        return read_waits(self.store, check_run_id(run_id))

    async def html(self, run_id: str) -> str:
        """Return a page on which a run can be replayed: one HTML file that needs nothing else, and no network.

        The graph with a scrubber over all steps, values and state at each, a timeline, the events, a search. It holds
        the run as of its last committed step, the same bytes each time; a value is cut after 4,000 characters, and
        past 6 million in all values are left out and said to be. Needs none of the flow's code.
        Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.draw.page import render_page  # noqa: PLC0415 - drawing is loaded when one draws

        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            plan = stored_plan(self.store, head)
            return render_page(plan.shape, *replay_of(self.store, head, plan))

    async def compare(self, first: str, second: str) -> RunComparison:
        """Compare two runs as of their last steps: where their paths part, and what came of each.

        Best of a run and its fork, whose history before the fork is one, or of two runs of one flow; of others what
        can be compared is. Needs none of the flow's code. Raises `RunNotFound`, `DamagedRecord`.
        """
        from beluga_graph.inspection.comparison import comparison_of  # noqa: PLC0415 - loaded when one looks

        gone: set[str] = {check_run_id(first), check_run_id(second)}
        while True:
            try:
                with detect_deletion(self.store, first), detect_deletion(self.store, second):
                    heads = read_run_record(self.store, first), read_run_record(self.store, second)
                    return comparison_of(
                        self.store, heads, (self._flows.plan_or_shape(heads[0]), self._flows.plan_or_shape(heads[1]))
                    )
            except RunNotFound as error:
                if error.run_id in gone:
                    raise
                gone.add(error.run_id)  # a fork's source was deleted meanwhile: compare what is left

    async def difference(
        self, run_id: str, flow: Compilable | None = None, *, rename: Mapping[str, str] | None = None
    ) -> tuple[JudgedChange, ...]:
        """Return what is otherwise in a flow than in the graph that a run stands in, and what that means for the run.

        The flow is the one that is registered, by default. A run goes on with a flow in which every change is
        `safe` for it. Raises `RunNotFound`, `RunConflict` for another flow, `BadRename`.
        """
        with detect_deletion(self.store, check_run_id(run_id)):
            head = read_run_record(self.store, run_id)
            plan = flow.plan() if flow is not None else self._flows.plan_of(head)
            return difference_for(self.store, head, plan, tuple((rename or {}).items()))

    async def check(self, flow: Compilable) -> dict[str, tuple[JudgedChange, ...]]:
        """Return for each unfinished run of a flow, failed ones too, what of the flow now it could not go on with.

        To be asked before a flow is put to use: a run without any such change goes on. Raises `DamagedRecord`.
        """
        return await broken_by(self.store, flow.plan())

    async def pending(self) -> list[Question]:
        """Return what the runs of the store ask people, the oldest question first. Raises `DamagedRecord`."""
        return await pending_questions(self.store, self._flows.plan_or_shape)
