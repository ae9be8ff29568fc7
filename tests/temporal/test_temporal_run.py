"""A handle on a run of a server shows which run it is."""

from beluga_graph import END, START, Graph
from beluga_graph.temporal import TemporalEngine, TemporalRun


def test_a_handle_shows_its_run_and_its_flow() -> None:
    flow = Graph("letter")
    flow.node(name="write")(lambda text: text)
    flow.edge(START, "write")
    flow.edge("write", END)
    engine = TemporalEngine("127.0.0.1")
    assert repr(TemporalRun(engine._host, "order-7", flow.plan())) == "<run 'order-7' of flow 'letter' on Temporal>"
