"""Commands that remove the records of dead owners never delete a file that such a record names."""

from pathlib import Path

import cli_flows
import pytest
from cli_documents import invoke
from cli_runs import begin

from beluga_graph.storage.leases import _machine
from beluga_graph.storage.records import encode_record
from stores import LMDBStore, Put

FLOW = "cli_flows:napping"


@pytest.mark.parametrize(
    "command",
    [("cancel", "r"), ("resume", "r", "--flow", FLOW), ("fork", "r", "1", "--flow", FLOW)],
    ids=lambda c: c[0],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_command_deletes_no_file_that_an_owners_record_names(
    tmp_path: Path, command: tuple[str, ...], *, absolute: bool
) -> None:
    folder, victim = tmp_path / "store", tmp_path / "precious"
    begin(folder, cli_flows.napping, 1, "r")
    victim.write_text("precious")
    store = LMDBStore(folder)
    for number, name in enumerate((str(victim) if absolute else "../precious", "data.mdb", "..", "")):
        key = b"O" + bytes([number]) * 16
        store.commit(Put(key, encode_record(key, (_machine(), name, 0))))
    store.close()
    result = invoke(*command, "--store", folder)
    assert result.exit_code == 0, result.output
    assert victim.read_text() == "precious"
    assert (folder / "data.mdb").exists()
    store = LMDBStore(folder)
    assert list(store.scan(b"O")) == []
    store.close()
