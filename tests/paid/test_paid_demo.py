"""The demo with a model: killed and started again, it pays for no summary twice."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_documents import ENVIRONMENT, invoke, spawn, write_documents
from paid_server import Account, Fault, PaidServer

from beluga_graph import Engine

DOCUMENTS = 9


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def environment(provider: str, account: Account) -> dict[str, Any]:
    name = provider.upper()
    return {"env": {**ENVIRONMENT, f"{name}_BASE_URL": account.url, f"{name}_API_KEY": "sk-test"}}


def answers_in(store: Path) -> set[str]:
    """Return the digests of the requests whose answers are committed."""

    async def look() -> set[str]:
        async with Engine(store) as engine:
            [run] = await engine.runs()
            steps = await engine.history(run.run_id)
        return {found for step in steps for event in step.events for found in re.findall("#([0-9a-f]{12})", event.text)}

    return asyncio.run(look())


def test_a_demo_that_is_killed_pays_for_no_summary_twice(
    paid_server: PaidServer, tmp_path: Path, provider: str
) -> None:
    documents = write_documents(tmp_path / "documents", DOCUMENTS)
    command: tuple[object, ...] = ("demo", documents, "--slow", 0, "--model", f"{provider}:small")
    whole = tmp_path / "whole.md"
    account = paid_server.open_account()
    process = spawn(*command, "--store", tmp_path / "whole", "--output", whole, **environment(provider, account))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert f"{DOCUMENTS} answers, {account.input_tokens:,} tokens read, {account.output_tokens:,} written" in output
    assert len(account.asked) == len(set(account.asked)) == DOCUMENTS
    assert "## In a sentence each\n\n- **module\\_02.py**: small on File: module\\_02.py Title: " in whole.read_text()

    store, report, killed = tmp_path / "store", tmp_path / "report.md", paid_server.open_account()
    command = (*command, "--store", store, "--output", report)
    killed.answered_max = DOCUMENTS // 2
    process = spawn(*command, **environment(provider, killed))
    killed.wait_for(DOCUMENTS // 2 + 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed.released.set()
    assert process.returncode == -signal.SIGKILL
    paid = answers_in(store)
    asked_before = len(killed.asked)
    process = spawn(*command, **environment(provider, killed))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "continuing run" in output
    assert f"{DOCUMENTS} answers, {account.input_tokens:,} tokens read" in output
    assert paid
    assert not paid & {asked.split(" ")[1] for asked in killed.asked[asked_before:]}
    assert set(killed.asked) == set(account.asked)
    assert report.read_bytes() == whole.read_bytes()


def test_a_refused_key_is_one_line_and_the_same_command_continues(
    paid_server: PaidServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = write_documents(tmp_path / "documents", DOCUMENTS)
    account = paid_server.open_account()
    account.faults.append(Fault(401))
    monkeypatch.setenv("OPENAI_BASE_URL", account.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    command = ("demo", documents, "--slow", 0, "--store", tmp_path / "store", "--output", tmp_path / "report.md")
    refused = invoke(*command, "--model", "openai:small")
    assert refused.exit_code == 3
    assert "error: run 'demo-" in refused.output
    assert "ModelError: openai model 'small': status 401: not like this; mend the cause and resume" in refused.output
    again = invoke(*command, "--model", "openai:small")
    assert again.exit_code == 0, again.output
    assert "had failed; trying again what failed" in again.output


def test_runs_with_and_without_a_model_are_different_runs(
    paid_server: PaidServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = write_documents(tmp_path / "documents", DOCUMENTS)
    account = paid_server.open_account()
    monkeypatch.setenv("OPENAI_BASE_URL", account.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    command = ("demo", documents, "--slow", 0, "--store", tmp_path / "store", "--output", tmp_path / "report.md")
    assert "model" not in invoke(*command).output
    assert account.asked == []
    with_model = invoke(*command, "--model", "openai:small")
    assert f"{DOCUMENTS} answers" in with_model.output
    assert "the documents changed" not in with_model.output
    assert "is finished" in invoke(*command).output


def test_an_unknown_model_is_wrong_usage(tmp_path: Path) -> None:
    result = invoke("demo", "--store", tmp_path / "store", "--model", "parrot:polly")
    assert result.exit_code == 2
    assert "no model is called 'parrot:polly': use 'openai:NAME', 'anthropic:NAME'" in " ".join(result.output.split())
    assert not (tmp_path / "store").exists()
