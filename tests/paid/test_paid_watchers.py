"""Watchers of a run see the faults of a provider, and how the run handles them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from models_rules import CONVERTERS
from models_wire import APIS
from paid_flows import FLOWS, INPUT, RUN_ID, plain
from paid_server import Account, Fault, PaidServer

from beluga_graph import Agent, Engine, Event, Flow, Outcome, RunFailed, RunStatus
from beluga_graph.models import AnthropicModel, Model, OpenAIModel
from beluga_graph.testing import VirtualClock

OVERLOADED = [Fault(429), Fault(500), Fault(529)]


class Watched(NamedTuple):
    events: list[Event]
    outcome: Outcome

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.type == kind]


@asynccontextmanager
async def opened_models(api: Any, account: Account) -> AsyncIterator[Any]:
    """Yield a function that makes a model of a name; close the models at the end."""
    made: list[OpenAIModel | AnthropicModel] = []

    def model(name: str) -> Model:
        options: dict[str, Any] = {"base_url": account.url, "api_key": "sk"}
        made.append(AnthropicModel(name, **options) if api == "anthropic" else OpenAIModel(name, api=api, **options))
        return made[-1]

    try:
        yield model
    finally:
        for each in made:
            await each.aclose()


async def watch(flow: Flow, *, effects: list[str] | None = None) -> Watched:
    """Run a flow on a clock that skips each pause; a failed run is returned and not raised."""
    clock = VirtualClock()
    called = [] if effects is None else effects
    async with Engine(clock=clock, deps=called.append) as engine:
        run = await engine.start(flow, INPUT, run_id=RUN_ID)
        events = []
        async for event in run.events():
            events.append(event)
            if event.type == "retry":
                assert event.delay_s is not None
                await clock.advance(event.delay_s)
        return Watched(events, await run.outcome())


def writer(model: Any) -> Agent:
    return plain(model, "writer")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", OVERLOADED, ids=lambda fault: str(fault.status))
async def test_an_overloaded_provider_is_asked_again_after_the_pause_that_it_names(
    paid_server: PaidServer, api: str, fault: Fault
) -> None:
    account = paid_server.open_account()
    pauses = [("7.5", 7.5), ("3600", 120.0)]
    account.faults.extend(Fault(fault.status, {"retry-after": seconds}) for seconds, _ in pauses)
    account.faults.append(fault)
    async with opened_models(api, account) as model:
        watched = await watch(writer(model))
    *asked, own = [event.delay_s for event in watched.of("retry")]
    assert asked == [delay for _, delay in pauses]
    assert own is not None
    assert 2 * 0.8 <= own <= 2 * 1.2, "the policy's pause after the third attempt: 0.5 s, doubled twice, give or take"
    assert [event.attempt for event in watched.of("retry")] == [1, 2, 3]
    assert all(f"status {fault.status}: not like this" in event.error for event in watched.of("retry"))
    check_end(watched, account, requests=4)
    assert "retracted" not in watched.kinds(), "nothing had been said"
    assert account.times_asked.most_common(1)[0][1] == 4, "the same was asked each time"


@pytest.mark.parametrize("api", APIS)
async def test_the_text_of_a_broken_stream_is_retracted_and_streamed_again(paid_server: PaidServer, api: str) -> None:
    account = paid_server.open_account()
    account.faults.append(Fault())
    async with opened_models(api, account) as model:
        watched = await watch(writer(model))
    place = watched.kinds().index("retry")
    first, second = watched.kinds()[:place], watched.kinds()[place + 1 :]
    assert first[-2:] == ["text", "retracted"]
    assert first[0] == "run_started"
    assert second[0] == "node_started"
    assert second[-2:] == ["node_finished", "done"]
    heard = {attempt: "".join(e.text for e in watched.of("text") if e.attempt == attempt) for attempt in (1, 2)}
    assert heard[1]
    assert heard[2].startswith(heard[1])
    assert heard[2] == watched.outcome.output
    [retracted] = watched.of("retracted")
    assert (retracted.attempt, retracted.agent) == (1, "writer")
    check_end(watched, account, requests=2)


def check_end(watched: Watched, account: Account, *, requests: int) -> None:
    """Check the answer of the run and its usage, as sent on the wire."""
    assert watched.outcome.status == RunStatus.completed
    assert watched.events[-1].output == watched.outcome.output
    finished = [event for event in watched.of("node_finished") if event.agent == "writer"]
    assert [event.text for event in finished] == [watched.outcome.output]
    assert len(account.asked) == requests
    assert watched.outcome.usage == {
        "model_calls": 1,
        "input_tokens": account.input_tokens,
        "output_tokens": account.output_tokens,
    }


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [400, 401])
async def test_a_request_that_is_refused_fails_the_run_at_once(
    paid_server: PaidServer, tmp_path: Path, api: str, status: int
) -> None:
    account = paid_server.open_account()
    account.faults.append(Fault(status))
    maker = "anthropic" if api == "anthropic" else "openai"
    async with opened_models(api, account) as model, Engine(tmp_path / "store") as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(writer(model), INPUT, run_id=RUN_ID)
        assert str(caught.value) == (
            f"run 'the-run': node 'writer' failed in attempt 1: ModelError: {maker} model 'writer': status {status}: "
            "not like this; mend the cause and resume the run, or cancel it"
        )
        assert len(account.asked) == 1
        output = await engine.execute(writer(model), INPUT, run_id=RUN_ID)
        assert output.startswith("writer on What do I owe")
        assert len(account.asked) == 2


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("flow", FLOWS)
async def test_every_pattern_has_the_same_end_if_each_request_fails_at_first(
    paid_server: PaidServer, api: str, flow: str
) -> None:
    calm, rough = paid_server.open_account(), paid_server.open_account()
    calmly, roughly = list[str](), list[str]()
    async with opened_models(api, calm) as model:
        expected = await watch(FLOWS[flow](model), effects=calmly)
    rough.stumbles = (Fault(529, {"retry-after": "3"}), Fault(), Fault(429, {"retry-after": "90"}))
    async with opened_models(api, rough) as model:
        watched = await watch(FLOWS[flow](model), effects=roughly)
    assert watched.outcome == expected.outcome
    assert set(rough.asked) == set(calm.asked)
    assert len(rough.asked) == 2 * len(calm.asked)
    assert sorted(roughly) == sorted(calmly), "no tool was called again"
    assert len(watched.of("retry")) == len(calm.asked)
    assert watched.outcome.usage["input_tokens"] == rough.input_tokens
    assert finished(watched) == finished(expected)
    for made_by, body in rough.bodies:
        CONVERTERS[made_by][1](body)


def finished(watched: Watched) -> dict[str, tuple[str, Any]]:
    return {event.token: (event.text, event.output) for event in watched.of("node_finished")}


async def test_events_show_the_arguments_of_a_call_as_the_model_gave_them(
    paid_server: PaidServer, tmp_path: Path
) -> None:
    account = paid_server.open_account()
    called: list[str] = []
    async with opened_models("chat", account) as model, Engine(tmp_path / "store", deps=called.append) as engine:
        run = await engine.start(FLOWS["tools"](model), INPUT)
        for _ in range(2):  # live, then from disk
            shown = [event.arguments async for event in run.events() if event.type == "tool_call"]
            assert shown == [{"item": "tea"}, {"item": "milk"}, {"numbers": [3, 1]}, {"item": "cake"}]
