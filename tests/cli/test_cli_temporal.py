"""The commands for runs on a Temporal server: a worker in a process of its own, and copies of runs in a store."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import cli_flows
import cli_worker_flows
import pytest
from cli_documents import ENVIRONMENT, invoke, spawn, wait_for
from servers import Server, find_free_port

from beluga_graph import EventBus, RunStatus
from beluga_graph.cli.temporal_options import TemporalPlace
from beluga_graph.temporal import TemporalEngine

HERE = Path(__file__).parent
PATIENCE_S = 120.0
READY = "SIGTERM or Ctrl-C ends it"


@pytest.fixture
def queue() -> str:
    """Return a task queue that no other test uses."""
    return token_hex(4)


@contextmanager
def working(server: Server, queue: str, *args: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a worker in another process, which is killed at the end."""
    process = spawn("worker", *args, "--temporal", server.address, "--task-queue", queue, cwd=HERE)
    try:
        wait_for(process, READY)
        yield process
    finally:
        process.kill()
        process.communicate()


async def finish(process: "subprocess.Popen[str]") -> str:
    """Return the rest of the output of a process that ends."""
    output, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
    return output


async def eventually_logged(folder: Path, *lines: str) -> None:
    path = folder / "log"
    async with asyncio.timeout(PATIENCE_S):
        while not path.exists() or path.read_text().splitlines() != list(lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def said(*args: object, code: int) -> str:
    """Return the output of a command on one line."""
    result = invoke(*args)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


async def test_a_worker_serves_flows_with_deps_and_claims(temporal_server: Server, queue: str, tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    flows = ("cli_flows:counting", "cli_worker_flows:measuring")
    options = ("--deps", "cli_worker_flows:units", "--claims", claims, "--json")
    process = spawn("worker", *flows, *options, "--task-queue", queue, "--temporal", temporal_server.address, cwd=HERE)
    try:
        ready = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert ready["event"] == "ready"
        assert [name.partition(":")[0] for name in ready["flows"]] == ["counting", "measuring"]
        async with TemporalEngine(temporal_server.address, task_queue=queue, claims=claims) as engine:
            assert await engine.execute(cli_flows.counting, 5) == [5, 5, []]
            assert await engine.execute(cli_worker_flows.measuring, "x" * 50_000) == f"{'x' * 50_000} 50000 characters"
        process.terminate()
        stops = [json.loads(line)["event"] for line in (await finish(process)).splitlines()]
        assert (process.returncode, stops) == (0, ["stopping", "stopped"])
    finally:
        process.kill()
        process.communicate()


async def test_a_worker_with_a_bus_relays_events_of_runs_and_prints_their_status(
    temporal_server: Server, queue: str, tmp_path: Path
) -> None:
    address, folder, made = temporal_server.address, tmp_path / "bus", ["orders.made"] * 2
    early, late = token_hex(8), token_hex(8)
    async with TemporalEngine(address, task_queue=queue) as engine:  # it has no bus: no status is announced
        with working(temporal_server, queue, "cli_worker_flows:publishing"):
            assert await engine.execute(cli_worker_flows.publishing, 2, run_id=early) == 2
    with working(temporal_server, queue, "cli_worker_flows:publishing", "--bus", folder) as process:
        async with EventBus() as unused, TemporalEngine(address, task_queue=queue, bus=unused) as engine:
            assert await engine.execute(cli_worker_flows.publishing, 2, run_id=late) == 2
        output = await asyncio.to_thread(wait_for, process, f"run '{late}' is completed")
        assert await eventually_traced(folder, early, made) == made
        process.terminate()
        output += await finish(process)
        assert process.returncode == 0
    assert output.endswith("stopped; every run goes on with the next worker\n")
    assert early not in output
    assert await eventually_traced(folder, late, []) == ["run.started", *made, "run.completed"]


async def eventually_traced(folder: Path, run_id: str, topics: list[str]) -> list[str]:
    """Return the topics of a run's events on a bus, once there are as many as given."""
    async with asyncio.timeout(PATIENCE_S), EventBus(folder) as bus:
        while len(trace := list(await bus.trace(run_id))) < len(topics):  # noqa: ASYNC110  # the bus has no end
            await asyncio.sleep(0.1)
    return [event.topic for event in trace]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_worker_finishes_running_nodes_and_another_one_continues(
    temporal_server: Server, queue: str, tmp_path: Path, number: signal.Signals
) -> None:
    run_id = token_hex(8)
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        with working(temporal_server, queue, "cli_flows:gated", "--grace", PATIENCE_S) as process:
            run = await engine.start(cli_flows.gated, str(tmp_path), run_id=run_id)
            await eventually_logged(tmp_path, f"{run_id} first begins")
            process.send_signal(number)
            await asyncio.to_thread(wait_for, process, "stopping; running nodes have 120 s to finish")
            (tmp_path / "open").touch()
            output = await finish(process)
            assert (process.returncode, output) == (0, "stopped; every run goes on with the next worker\n")
        await eventually_logged(tmp_path, f"{run_id} first begins", f"{run_id} first ends")
        with working(temporal_server, queue, "cli_flows:gated"):
            assert await run.result(PATIENCE_S) == "gone through"
    await eventually_logged(tmp_path, f"{run_id} first begins", f"{run_id} first ends", f"{run_id} second")


async def test_a_node_that_outlasts_the_grace_runs_again_on_another_worker(
    temporal_server: Server, queue: str, tmp_path: Path
) -> None:
    run_id = token_hex(8)
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        with working(temporal_server, queue, "cli_flows:gated", "--grace", 0) as process:
            run = await engine.start(cli_flows.gated, str(tmp_path), run_id=run_id)
            await eventually_logged(tmp_path, f"{run_id} first begins")
            process.terminate()
            await finish(process)
            assert process.returncode == 0
        (tmp_path / "open").touch()
        with working(temporal_server, queue, "cli_flows:gated"):
            assert await run.result(PATIENCE_S) == "gone through"
    begun = [f"{run_id} first begins"] * 2
    await eventually_logged(tmp_path, *begun, f"{run_id} first ends", f"{run_id} second")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_a_worker_at_once(
    temporal_server: Server, queue: str, tmp_path: Path, number: signal.Signals
) -> None:
    run_id = token_hex(8)
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        with working(temporal_server, queue, "cli_flows:gated", "--grace", 3_600) as process:
            await engine.start(cli_flows.gated, str(tmp_path), run_id=run_id)
            await eventually_logged(tmp_path, f"{run_id} first begins")
            process.send_signal(number)
            await asyncio.to_thread(wait_for, process, "stopping")
            process.send_signal(number)
            await finish(process)
            assert process.returncode == -number
        with working(temporal_server, queue, "cli_flows:gated"):
            assert await engine.cancel(run_id) == RunStatus.cancelled


def test_a_worker_without_a_server_or_its_namespace_says_so(temporal_server: Server) -> None:
    nowhere = f"127.0.0.1:{find_free_port()}"
    output = said("worker", "cli_flows:counting", "--temporal", nowhere, code=1)
    assert output.startswith("error: ")
    assert f"{nowhere}" in output
    assert "no Temporal server answers" in output
    assert "temporal server start-dev" in output
    command = ("worker", "cli_flows:counting", "--temporal", temporal_server.address, "--namespace", "nope")
    assert "Namespace nope is not found: create it with `temporal operator namespace" in said(*command, code=1)


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("no_such_module:flow",), 1, "module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (("cli_flows:nothing",), 1, "module 'cli_flows' has no 'nothing'; its flows are: asking, asking_again, "),
        (("cli_flows",), 2, "'cli_flows' is not a flow: write MODULE:FLOW"),
        (
            ("cli_worker_flows:measuring", "cli_worker_flows:measuring_again"),
            2,
            "two flows are called 'measuring' and have the same graph",
        ),
        (("cli_flows:counting", "--deps", "cli_flows:nothing"), 1, "module 'cli_flows' has no 'nothing'"),
        (("cli_flows:counting", "--deps", "cli_flows"), 2, "'cli_flows' names no object: write MODULE:NAME"),
        (("cli_flows:counting", "--claims", "ftp://x"), 2, "claims='ftp://x': give s3://bucket/prefix, a path, or"),
        (("cli_flows:counting", "--grace", "-1"), 2, "Invalid value for '--grace'"),
    ],
)
def test_wrong_flows_and_options_of_a_worker_are_refused(args: tuple[str, ...], code: int, text: str) -> None:
    assert text in said("worker", *args, code=code)


def test_without_the_extra_the_commands_name_it(tmp_path: Path) -> None:
    hiding = "import sys; sys.modules['temporalio'] = None; from beluga_graph.cli import main; main()"
    for args in (("worker", "cli_flows:counting"), ("mirror", "r", "--store", tmp_path / "copy")):
        process = spawn(*args, program=("-c", hiding), cwd=HERE, env=ENVIRONMENT)
        output, _ = process.communicate()
        assert (process.returncode, output) == (
            1,
            "error: Temporal needs the package temporalio: pip install 'beluga-graph[temporal]'\n",
        )


async def test_a_copy_of_a_run_is_read_like_a_local_run(temporal_server: Server, queue: str, tmp_path: Path) -> None:
    run_id, copy, claims = token_hex(8), tmp_path / "copy", tmp_path / "claims"

    async def invoked(*args: object) -> Any:
        return await asyncio.to_thread(invoke, *args)

    command = ("mirror", run_id, "--temporal", temporal_server.address, "--store", copy)
    missing = await invoked(*command)
    assert (missing.exit_code, copy.exists()) == (1, False)
    assert "the server has no run with this id" in missing.output
    async with TemporalEngine(temporal_server.address, task_queue=queue, claims=claims) as engine:
        async with engine.worker([cli_flows.asking]):
            run = await engine.start(cli_flows.asking, str(tmp_path), run_id=run_id)
            async with asyncio.timeout(PATIENCE_S):
                while await run.status() != "waiting":  # noqa: ASYNC110 - a status is not announced
                    await asyncio.sleep(0.1)
            first = await invoked(*command, "--json")
            assert json.loads(first.output) == {"run_id": run_id, "status": "waiting", "seq": 1}
            await engine.answer(run_id, "pay.approval#1", "approve")
            await engine.signal(run_id, "shipped", "x" * 50_000)
            assert await run.result(PATIENCE_S) == "x" * 50_000
        lost = await invoked(*command)
        assert lost.exit_code == 1
        assert "give the claims of its workers" in lost.output
        again = await invoked(*command, "--claims", claims)
        assert f"run '{run_id}' is copied to {copy}: completed after step" in " ".join(again.output.split())
    shown = json.loads((await invoked("history", run_id, "--store", copy, "--json")).output)
    assert shown[0]["trigger"] == "RunStarted"
    for looking in (("runs",), ("show", run_id), ("events", run_id), ("draw", run_id), ("diff", run_id, run_id)):
        result = await invoked(*looking, "--store", copy)
        assert result.exit_code == 0, result.output
        assert result.output
    assert (await invoked("verify", "--store", copy)).exit_code == 0


async def test_the_commands_that_operate_runs_work_on_a_server(
    temporal_server: Server, queue: str, tmp_path: Path
) -> None:
    run_id = token_hex(8)
    there = ("--temporal", temporal_server.address, "--task-queue", queue)

    async def done(*args: object) -> Any:
        result = await asyncio.to_thread(invoke, *args, *there, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    async def until_listed(command: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [each for each in await done(command) if each["run_id"] == run_id]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return found[0]

    flow = ("--flow", "cli_flows:asking")
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine, engine.worker([cli_flows.asking]):
        await engine.start(cli_flows.asking, str(tmp_path), run_id=run_id)
        question = await until_listed("pending")
        assert [reason["kind"] for reason in (await done("why", run_id))["reasons"]] == ["answer"]
        assert (await until_listed("runs"))["status"] == "waiting"
        answered = await done("answer", run_id, question["id"], "approve", *flow)
        assert answered["decision"] == "approve"
        assert (await done("resume", run_id, *flow))["status"] in ("running", "waiting")
        sent = await done("signal", run_id, "shipped", '"now"', *flow)
        assert sent == {"run_id": run_id, "signal": "shipped", "is_waited_for": None}
        async with asyncio.timeout(PATIENCE_S):
            assert await (await engine.follow(run_id)).result() == "now"
        assert await done("cancel", run_id) == {"run_id": run_id, "status": "completed"}
    missing = await asyncio.to_thread(invoke, "signal", token_hex(8), "shipped", *there)
    assert (missing.exit_code, "the server has no run with this id" in missing.output) == (1, True)


def test_the_environment_and_the_configuration_file_of_temporal_name_the_server(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = TemporalPlace(server=None, namespace=None, claims=None)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    assert str(place) == "task queue 'beluga-graph' of localhost:7233, namespace 'default'"
    (tmp_path / "temporal.toml").write_text('[profile.default]\naddress = "of-file:1"\nnamespace = "team"\n')
    assert str(place) == "task queue 'beluga-graph' of of-file:1, namespace 'team'"
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")
    assert "the server has no run with this id" in said("mirror", token_hex(4), "--store", tmp_path / "copy", code=1)
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")  # and so TLS, which this server does not have
    output = said("mirror", token_hex(4), "--store", tmp_path / "copy", code=1)
    assert "no Temporal server answers" in output
    assert "secret" not in output
    (tmp_path / "temporal.toml").write_text("[profile")
    assert "Temporal's configuration cannot be read" in said("mirror", "r", "--store", tmp_path / "copy", code=1)
