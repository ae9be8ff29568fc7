"""The demo, run in this process: its report, and its output when it is started again."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_documents import invoke, spawn_gated, wait_for, write_documents
from typer.testing import Result

from beluga_graph.cli.demo_run import own_documents
from beluga_graph.demo import pipeline as demo_pipeline
from beluga_graph.demo.documents import MARKER, list_documents
from beluga_graph.demo.pipeline import TURNS_MAX, Draft, extend, tighten, verdict
from beluga_graph.demo.report import write_report
from beluga_graph.demo.texts import Sentence


class Place(NamedTuple):
    """Where a test's documents, store and report are."""

    documents: Path
    store: Path
    report: Path

    def demo(self, *more: object) -> Result:
        return invoke("demo", self.documents, "--store", self.store, "--output", self.report, "--slow", 0, *more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(write_documents(tmp_path / "documents", 9), tmp_path / "store", tmp_path / "report.md")


def run_id(result: Result) -> str:
    found = re.search(r"demo-[0-9a-f]{6}-[0-9a-f]{8}-\d+", result.output)
    assert found is not None, result.output
    return found[0]


def test_a_first_run_reports_progress_in_plain_lines_and_writes_the_report(place: Place) -> None:
    result = place.demo()
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert f"run {run_id(result)}: 9 documents of {place.documents}, store {place.store}" in result.output
    for line in ("reading …", "9 of 9 documents, ", "comparing …", "summing up …", "writing the report …"):
        assert line in result.output
    steps = invoke("history", run_id(result), "--store", place.store, "--json").output
    nodes = steps.count('"trigger": "NodeFinished"')
    assert nodes > 9 * 7
    assert f"nodes         {nodes} run by this process, 0 were done before" in result.output
    report = place.report.read_text()
    assert report.startswith(MARKER + "\n\n# What is in documents\n\n9 documents (3 code, 6 prose), ")
    assert r"| text\_00.md | prose | Text 0 \& many | 1 |" in report
    assert r"| module\_02.py | code |" in report
    assert r"- text\_00.md: nowhere\_0.md" in report
    assert "- example.com\n- example.org" in report
    assert "- turn 1: 0 words" in report
    assert str(place.documents.parent) not in report


def test_files_that_are_not_documents_are_listed_as_skipped(place: Place) -> None:
    output = place.demo().output
    assert "skipped: binary.txt (binary)" in output
    assert "skipped: huge.txt (huge: 1,500,000 bytes)" in output
    assert "skipped: latin.txt (not UTF-8)" in output
    assert "skipped: picture.png (not a known kind of text)" in output
    assert "hidden" not in output.lower()
    assert "link.md" not in output


def test_a_finished_run_is_reported_in_a_line_and_nothing_runs(place: Place) -> None:
    first = place.demo()
    steps = invoke("history", run_id(first), "--store", place.store, "--json").output
    again = place.demo()
    assert again.exit_code == 0
    assert re.search(
        rf"run {run_id(first)} is finished: 9 documents, [\d,]+ words, \d+ steps; report {place.report}\n"
        "nothing was run; the same command with --fresh starts a new run\n",
        again.output,
    )
    assert invoke("history", run_id(first), "--store", place.store, "--json").output == steps


def test_a_missing_report_is_written_again_from_the_store(place: Place) -> None:
    place.demo()
    text = place.report.read_bytes()
    place.report.unlink()
    assert "report written again from the store" in place.demo().output
    assert place.report.read_bytes() == text


def test_a_report_that_the_user_changed_is_left_as_it_is(place: Place) -> None:
    place.demo()
    place.report.write_text(place.report.read_text() + "My own words.\n")
    assert "was changed since, and is left as it is" in place.demo().output
    assert place.report.read_text().endswith("My own words.\n")


def test_fresh_starts_a_new_run_with_the_same_report(place: Place) -> None:
    first = place.demo()
    text = place.report.read_bytes()
    fresh = place.demo("--fresh")
    assert run_id(fresh) == run_id(first).removesuffix("1") + "2"
    assert "0 were done before" in fresh.output
    assert place.report.read_bytes() == text
    assert f"run {run_id(fresh)} is finished" in place.demo().output


def test_changed_documents_are_reported_and_start_a_new_run(place: Place) -> None:
    first = place.demo()
    (place.documents / "text_00.md").write_text("# Another text\n\nIt is short.\n")
    (place.documents / "text_01.md").unlink()
    (place.documents / "new.rst").write_text("Heading\n=======\n\nWords.\n")
    second = place.demo()
    assert f"the documents changed since run {run_id(first)} (1 changed, 1 new, 1 gone): a new run" in second.output
    assert "| new.rst | prose | Heading | 1 |" in place.report.read_text()


def test_an_unfinished_run_whose_documents_changed_is_cancelled(place: Place) -> None:
    process = spawn_gated(1, "demo", place.documents, "--store", place.store, "--output", place.report)
    wait_for(process, "reading")
    process.kill()
    process.communicate()
    (place.documents / "new.txt").write_text("More words.\n")
    result = place.demo()
    assert result.exit_code == 0, result.output
    assert "(0 changed, 1 new, 0 gone): a new run" in result.output
    assert "was not finished, and is cancelled" in result.output
    assert "cancelled" in invoke("runs", "--store", place.store).output


def test_a_report_in_the_folder_is_not_a_document_of_the_next_run(place: Place) -> None:
    inside = place._replace(report=place.documents / "report.md")
    inside.demo()
    assert "is finished" in inside.demo().output
    assert "is finished" in place.demo().output, "a report of another command is not a document either"


def test_the_read_of_a_deleted_document_is_retried_and_then_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sleeping:
        @staticmethod
        def sleep(_: float) -> None:
            (place.documents / "text_07.md").unlink(missing_ok=True)

    monkeypatch.setattr(demo_pipeline, "time", Sleeping)
    result = place.demo()
    assert result.exit_code == 0, result.output
    assert "retry: read, attempt 1 failed: " in result.output
    assert "documents     8, 1 not readable" in result.output
    assert "retries       2" in result.output
    assert "## Documents that could not be read\n\n- text\\_07.md: FileNotFoundError\n" in place.report.read_text()


def test_a_document_that_changes_during_the_run_is_left_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleeping:
        @staticmethod
        def sleep(_: float) -> None:
            (place.documents / "text_07.md").write_text("Other words.")

    monkeypatch.setattr(demo_pipeline, "time", Sleeping)
    result = place.demo()
    assert result.exit_code == 0, result.output
    assert "retries       0" in result.output
    assert "text\\_07.md: it changed meanwhile" in place.report.read_text()


def test_a_failed_run_is_reported_and_the_same_command_tries_again(place: Place) -> None:
    folder = place.report.parent / "out"
    folder.mkdir()
    elsewhere = place._replace(report=folder / "report.md")
    process = spawn_gated(1, "demo", place.documents, "--store", place.store, "--output", elsewhere.report)
    wait_for(process, "reading")
    shutil.rmtree(folder)
    output, _ = process.communicate()
    assert process.returncode == 3, output
    assert "error: run 'demo-" in output
    assert "node 'publish' failed in attempt 1: FileNotFoundError" in output
    assert "Traceback" not in output
    folder.mkdir()
    again = elsewhere.demo()
    assert again.exit_code == 0, again.output
    assert "had failed; trying again what failed" in again.output
    assert "9 of 9 documents were done" in again.output
    assert "nodes         1 run by this process" in again.output


def test_a_file_that_is_not_a_report_is_never_overwritten(place: Place) -> None:
    place.report.write_text("My diary\n")
    result = place.demo()
    assert result.exit_code == 2
    assert "is not a report of this demo" in " ".join(result.output.split())
    assert place.report.read_text() == "My diary\n"
    assert not place.store.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--output", "nowhere/report.md"), 2, "is not a file in a folder that exists"),
        (("--slow", "-1"), 2, "Invalid value for '--slow'"),
        (("--durability", "often"), 2, "Invalid value for '--durability'"),
        (("--store", "file"), 1, "it is a file, and a store is a folder"),
        (("--nonsense",), 2, "No such option"),
    ],
)
def test_a_bad_option_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(place.report.parent)
    Path("file").touch()
    result = place.demo(*options)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = invoke("demo", tmp_path / "empty", "--output", tmp_path / "report.md", "--store", tmp_path / "store")
    assert result.exit_code == 1
    assert f"error: no text documents in {tmp_path / 'empty'}: name another folder" in result.stderr
    assert invoke("demo", tmp_path / "nowhere").exit_code == 2


def test_without_a_folder_the_projects_own_documents_are_read(tmp_path: Path) -> None:
    assert len(list_documents(own_documents()).job.documents) > 30


def test_a_report_is_replaced_completely(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_report(path, "one", "run")
    before = path.stat().st_ino
    write_report(path, "one", "run")
    assert path.stat().st_ino == before, "the same report is not written again"
    write_report(path, "two", "run")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def sentence(text: str, words: int, *terms: str) -> Sentence:
    return Sentence(text, "a.md", words, terms)


def test_the_summary_gains_missing_keywords_and_loses_its_weakest_sentence() -> None:
    one, two, three = (
        sentence("One.", 60, "whale"),
        sentence("Two.", 60, "whale"),
        sentence("Three.", 60, "crash", "node"),
    )
    draft = Draft((), (one, two, three), ("whale", "crash", "node"))
    assert verdict(draft) == "too short"
    longer = extend(extend(draft))
    assert longer.chosen == (three, one)
    assert verdict(longer) == "good"
    longest = extend(longer)
    assert verdict(longest) == "too long"
    assert tighten(longest).chosen == (three, two)


def test_the_summary_is_published_after_its_last_turn() -> None:
    assert verdict(Draft((), (sentence("One.", 60),), (), TURNS_MAX)) == "enough"
    assert verdict(Draft((), (), ())) == "good", "nothing is left to add"
