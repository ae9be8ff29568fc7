"""The commands that read a store: their text, their JSON, and their exit codes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_documents import ENVIRONMENT, invoke, spawn
from typer.main import get_command

from beluga_graph import END, START, Context, Engine, Graph, RunFailed
from beluga_graph.cli.app import app
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import encode_record
from stores import LMDBStore
from stores.base import Delete, Put

HOSTILE = "\x1b]0;title\x07\x1b[31m[bold]red[/bold] \u202etxet\x9b"

simple = Graph("simple")


@simple.node
def double(n: int) -> int:
    return 2 * n


simple.edge(START, double)
simple.edge(double, END)

waiting = Graph("waiting")
waiting.wait("answer", "yes")
waiting.edge(START, "answer")
waiting.edge("answer", END)

failing = Graph("failing")


@failing.node
def fail(ctx: Context, text: str) -> str:
    raise ValueError(text)


failing.edge(START, fail)
failing.edge(fail, END)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a run that completed, one that waits, and one that failed with a hostile text."""
    path = tmp_path_factory.mktemp("looking") / "store"

    async def fill() -> None:
        async with Engine(path) as engine:
            assert await engine.execute(simple, 21, run_id="done-1") == 42
            await engine.start(waiting, {"large": b"x" * 20_000}, run_id="waits-[red]1")
            with pytest.raises(RunFailed):
                await engine.execute(failing, HOSTILE, run_id="failed-1")

    asyncio.run(fill())
    return path


def read_json(*args: object, code: int = 0) -> Any:
    result = invoke(*args, "--json")
    assert result.exit_code == code, result.output
    assert result.output.isascii()
    assert result.output.replace("\n", "").isprintable()
    return json.loads(result.output)


def test_runs_lists_every_run(store: Path) -> None:
    output = invoke("runs", "--store", store).output
    assert [line.split()[:3] for line in output.splitlines()] == [
        ["run", "flow", "status"],
        ["done-1", "simple", "completed"],
        ["waits-[red]1", "waiting", "waiting"],
        ["failed-1", "failing", "failed"],
    ]
    found = read_json("runs", "--store", store)
    assert [run["run_id"] for run in found] == ["done-1", "waits-[red]1", "failed-1"]
    assert set(found[0]) == {"run_id", "flow", "status", "created_ms", "updated_ms", "moved_to"}


def test_show_prints_status_steps_and_output(store: Path) -> None:
    above, found_tree, _ = invoke("show", "done-1", "--store", store).output.partition("visits of done-1, completed: ")
    assert found_tree
    facts = dict(line.rstrip().split(maxsplit=1) for line in above.splitlines())
    del facts["created"]
    assert facts == {
        "run": "done-1",
        "flow": "simple",
        "status": "completed",
        "steps": "2 committed, 1 nodes finished",
        "input": "21",
        "output": "42",
    }
    found = read_json("show", "done-1", "--store", store)
    assert (found["flow"], found["status"], found["output"], found["tokens"]) == ("simple", "completed", 42, [])


def test_show_lists_the_tokens_of_a_waiting_run(store: Path) -> None:
    output = invoke("show", "waits-[red]1", "--store", store).output
    assert "answer#1" in output
    token = read_json("show", "waits-[red]1", "--store", store)["tokens"][0]
    assert (token["node"], token["state"]) == ("answer", "wait")
    assert token["value"]["large"] == {"$type": "bytes", "hex": "78" * 20_000}


def test_history_lists_the_steps(store: Path) -> None:
    rows = [line.split() for line in invoke("history", "done-1", "--store", store).output.splitlines()]
    assert [(row[0], row[3]) for row in rows[1:]] == [("1", "RunStarted"), ("2", "NodeFinished")]
    steps = read_json("history", "done-1", "--store", store)
    assert [step["seq"] for step in steps] == [1, 2]
    assert [event["type"] for event in steps[1]["events"]] == ["node_finished", "done"]


def test_stored_text_cannot_control_the_terminal(store: Path) -> None:
    for command in ("show", "history"):
        output = invoke(command, "failed-1", "--store", store).output
        assert output.replace("\n", "").isprintable()
        assert r"\x1b]0;title\x07\x1b[31m[bold]red[/bold] \u202etxet\x9b" in output
    assert read_json("show", "failed-1", "--store", store)["failure"]["message"] == HOSTILE


def test_draw_prints_mermaid() -> None:
    name = "beluga_graph.demo.pipeline:pipeline"
    mermaid = invoke("draw", name).output
    assert mermaid.startswith("flowchart TD\n")
    assert '"prose"' in mermaid
    found = read_json("draw", name)
    assert (found["format"], found["drawing"]) == ("mermaid", mermaid)
    assert {"name": "documents", "kind": "fan_out"} in found["nodes"]


def test_draw_finds_modules_in_the_current_folder_and_never_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "own_flows.py").write_text(
        "from beluga_graph import END, START, Graph\nclass Shelf:\n    flow = Graph('own')\n"
        "Shelf.flow.add(lambda n: n, name='same')\nShelf.flow.edge(START, 'same')\nShelf.flow.edge('same', END)\n"
    )
    process = spawn("draw", "own_flows:Shelf.flow", cwd=tmp_path, env={**ENVIRONMENT, "PYTHONSAFEPATH": "1"})
    output, _ = process.communicate()
    assert (process.returncode, '["same"]' in output) == (0, True), output


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        (
            "nothing",
            2,
            "'nothing' is not a flow, such as beluga_graph.demo.pipeline:pipeline, and there is no store at .beluga",
        ),
        (":flow", 2, "':flow' is not a flow: write MODULE:FLOW, such as beluga_graph.demo.pipeline:pipeline"),
        ("no_such_module:flow", 1, "error: module 'no_such_module' cannot be imported: ModuleNotFoundError: "),
        ("no_such_module:flow", 1, "named 'no_such_module'; give the command in the folder that contains it"),
        ("json:loads", 1, "error: json:loads is of type function, not a flow"),
        (
            "beluga_graph.demo.pipeline:flow",
            1,
            "error: module 'beluga_graph.demo.pipeline' has no 'flow'; its flows are: pipeline",
        ),
    ],
)
def test_draw_refuses_a_target_that_is_not_a_flow(name: str, code: int, message: str) -> None:
    result = invoke("draw", name)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["show", "history"])
def test_an_unknown_run_is_an_error_of_one_line(store: Path, command: str) -> None:
    result = invoke(command, "nobody", "--store", store)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: run 'nobody': no such run in this store")
    assert result.stderr.count("\n") == 1
    assert invoke(command, "../up", "--store", store).stderr.startswith("error: '../up' is not a run id")


@pytest.mark.parametrize(
    "command",
    [
        ("runs",),
        ("show", "a"),
        ("history", "a"),
        ("events", "a"),
        ("diff", "a", "b"),
        ("verify",),
        ("pending",),
        ("signal", "a", "go"),
        ("answer", "a", "q", "approve"),
        ("cancel", "a"),
        ("prune",),
        ("compact",),
        ("resume", "a", "--flow", "cli_flows:gated"),
        ("fork", "a", "1", "--flow", "cli_flows:gated"),
        ("check", "cli_flows:gated"),
    ],
)
def test_no_command_creates_a_missing_store(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = invoke(*command, "--store", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: there is no store at {tmp_path / 'none'}: name one with --store PATH\n"
    assert not (tmp_path / "none").exists()


def test_verify_reads_every_record(store: Path) -> None:
    result = invoke("verify", "--store", store)
    assert result.exit_code == 0, result.output
    assert "runs rebuilt: 3\nno damage\n" in result.output
    found = read_json("verify", "--store", store)
    assert (found["runs"], found["damage"]) == (3, [])
    assert found["records"]["steps"] == 2 + 1 + 2
    assert found["records"]["large values"] == 1


def change(store: LMDBStore, letter: bytes) -> None:
    key, blob = next(iter(store.scan(letter)))
    store.commit(Put(key, blob[:-1] + bytes([blob[-1] ^ 1])))


def take_step(store: LMDBStore, _: bytes) -> None:
    store.commit(Delete(Keys("done-1").step(1)))


def take_value(store: LMDBStore, letter: bytes) -> None:
    store.commit(Delete(next(iter(store.scan(letter)))[0]))


@pytest.mark.parametrize(
    ("harm", "letter", "message"),
    [
        *((change, bytes([letter]), "fails its checksum") for letter in b"HLNSPV"),
        (change, b"A", "is not the one byte that it should be"),
        (take_step, b"S", "step 1 of run 'done-1' is missing"),
        (take_value, b"V", "is missing"),
    ],
)
def test_verify_reports_damage(tmp_path: Path, harm: Any, letter: bytes, message: str) -> None:
    path = tmp_path / "store"

    async def fill() -> None:
        async with Engine(path) as engine:
            await engine.execute(simple, 21, run_id="done-1")
            await engine.start(waiting, "x" * 20_000)

    asyncio.run(fill())
    store = LMDBStore(path)
    harm(store, letter)
    store.close()
    result = invoke("verify", "--store", path)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "no damage" not in result.output
    assert any(message in damage["detail"] for damage in read_json("verify", "--store", path, code=1)["damage"])


GONE = Keys("gone")
SEALED = (Keys("done-1").parked, b"Q" + GONE.run_key + bytes(12), b"E" + GONE.run_key, b"J" + bytes(32))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (GONE.open, b"\x01", "points to a run that is not there"),
        (GONE.parked, encode_record(GONE.parked, 1), "points to a run that is not there"),
        (GONE.timer(5, "t:a#1"), b"\x01", "points to a run that is not there"),
        (
            GONE.question("a#1"),
            encode_record(GONE.question("a#1"), ("a#1", "a", 1, b"")),
            "points to a run that is not there",
        ),
        (Keys("done-1").wakeup, b"ring", "the wakeup has 4 bytes, not 8"),
        (Keys("done-1").cancel, b"\x02", "is not the one byte that it should be"),
        *((key, encode_record(key, 1)[:-1] + b"!", "fails its checksum") for key in SEALED),
        (b"\xff", b"nonsense", "is of no kind that is known"),
    ],
)
def test_verify_reports_wrong_index_entries(tmp_path: Path, key: bytes, value: bytes, message: str) -> None:
    store = filled(tmp_path / "store")
    store.commit(Put(key, value))
    store.close()
    damage = read_json("verify", "--store", tmp_path / "store", code=1)["damage"]
    assert [found["where"] for found in damage] == [key.hex()]
    assert message in damage[0]["detail"]


def test_verify_knows_every_kind_of_record(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    grave, doom, post = b"E" + GONE.run_key, b"J" + bytes(32), b"Q" + Keys("done-1").run_key + bytes(12)
    store.commit(
        Put(Keys("done-1").wakeup, bytes(8)),
        Put(Keys("done-1").cancel, b"\x01"),
        Put(grave, encode_record(grave, ("gone", bytes(16)))),
        Put(doom, encode_record(doom, bytes(16))),
        Put(post, encode_record(post, ("id", "topic", "", "done-1", "", 1, b"\xc0"))),
    )
    store.close()
    found = read_json("verify", "--store", tmp_path / "store")
    kinds = {"wakeups", "tombstones", "doomed values", "messages to publish"}
    assert {kind: found["records"].get(kind) for kind in kinds} == dict.fromkeys(kinds, 1)
    assert "unknown" not in found["records"]


def test_verify_finds_records_with_a_good_checksum_and_a_wrong_form(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    keys = [b"E" + GONE.run_key, b"Q" + Keys("done-1").run_key + bytes(12), b"O" + bytes(16)]
    store.commit(*(Put(key, encode_record(key, b"anything")) for key in keys))
    store.close()
    found = read_json("verify", "--store", tmp_path / "store", code=1)
    assert {damage["where"] for damage in found["damage"]} == {key.hex() for key in keys}
    assert all("has a good checksum but not the form of its kind" in damage["detail"] for damage in found["damage"])


def filled(path: Path) -> LMDBStore:
    """Return a store that holds one run."""

    async def fill() -> None:
        async with Engine(path) as engine:
            await engine.execute(simple, 21, run_id="done-1")

    asyncio.run(fill())
    return LMDBStore(path)


def test_verify_reports_a_file_that_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"nonsense" * 4096)
    result = invoke("verify", "--store", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: store ")
    assert result.stderr.count("\n") == 1


def test_why_explains_a_run_with_commands_to_copy(store: Path) -> None:
    lines = invoke("why", "waits-[red]1", "--store", store).output.splitlines()
    assert lines[0] == "run 'waits-[red]1' of flow 'waiting' is waiting"
    assert lines[2].strip() == f"beluga-graph serve MODULE:FLOW --store {store}"
    assert lines[3].strip().startswith("answer#1: waits for signal 'yes', for ")
    assert lines[4].strip() == f"beluga-graph signal 'waits-[red]1' yes --store {store}"
    assert lines[5:] == ["it moves on with any of these:", "  signal 'yes'"]
    found = read_json("why", "failed-1", "--store", store)
    assert [(reason["kind"], reason["node"]) for reason in found["reasons"]] == [("failed", "fail")]
    assert found["triggers"][0]["kind"] == "drive"
    output = invoke("why", "failed-1", "--store", store).output
    assert "\x1b" not in output
    assert "no such run in this store" in invoke("why", "nobody", "--store", store).stderr


def test_pending_lists_waits_for_signals_on_request(store: Path) -> None:
    assert read_json("pending", "--store", store) == []
    [wait] = read_json("pending", "--waits", "--store", store)
    assert (wait["run_id"], wait["id"], wait["signal"]) == ("waits-[red]1", "answer#1", "yes")
    assert "signal 'yes'" in invoke("pending", "--waits", "--store", store).output


def test_help_names_the_exit_codes_and_version_is_printed() -> None:
    commands = list(get_command(app).commands)
    assert len(commands) == 22
    for command in ("", *commands):
        output = " ".join(invoke(*filter(None, [command]), "--help").output.split())
        assert "Exit codes: 0 done, 1 error, 2 wrong usage, 3 the run failed, 4 busy" in output
    assert invoke("--version").output.startswith("beluga-graph ")


def test_help_loads_no_engine_store_or_flow() -> None:
    heavy = ("engine.engine", "storage", "execution", "runtime", "bus", "agents", "flows", "demo", "draw.render")
    code = "import sys, beluga_graph.cli.app; print([name for name in sys.modules if 'beluga_graph.' in name])"
    process = spawn(program=("-c", code))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert not [name for name in heavy if f"'beluga_graph.{name}'" in output]


def test_a_terminal_without_unicode_gets_everything_else(store: Path) -> None:
    process = spawn("show", "failed-1", "--store", store, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "failing" in output
