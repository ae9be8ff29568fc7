"""Drawing: a flow, or a run over the graph that it stands in, in any of the formats."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import typer

from beluga_graph import BelugaError, Engine
from beluga_graph.cli.commands.runs import load_flow, opened, print_json, with_engine
from beluga_graph.cli.exit_codes import CommandError
from beluga_graph.cli.terminal_text import plain
from beluga_graph.codec.to_json import as_data
from beluga_graph.draw.render import Format, drawn
from beluga_graph.flows.flow import Flow
from beluga_graph.inspection.reading import stored_plan, trail_of
from beluga_graph.storage.keys import check_run_id
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import one_look, read_head
from stores import StoreError

__all__ = ["Form", "Shade", "draw"]


class Form(StrEnum):
    """What a drawing is written in."""

    svg = "svg"
    mermaid = "mermaid"
    dot = "dot"
    ascii = "ascii"
    html = "html"


class Shade(StrEnum):
    """The colours of a drawing; auto is what its reader prefers."""

    auto = "auto"
    light = "light"
    dark = "dark"


_BY_SUFFIX = {
    ".svg": Form.svg,
    ".mmd": Form.mermaid,
    ".mermaid": Form.mermaid,
    ".dot": Form.dot,
    ".gv": Form.dot,
    ".txt": Form.ascii,
    ".html": Form.html,
    ".htm": Form.html,
}


def draw(
    target: str,
    *,
    store: Path,
    form: Form | None,
    depth: int | None,
    theme: Shade,
    step: int | None,
    output: Path | None,
    json: bool,
) -> None:
    """Draw what a name says: the run of that id in the store if there is one, else a flow."""
    head = _run_of(target, store)
    chosen = form or _by_suffix(output) or (Form.mermaid if head is None else Form.ascii)
    _check(chosen, run=head is not None, depth=depth, theme=theme, step=step)
    if head is None:
        text, data = _flow(load_flow(target), chosen, depth, theme)
    else:
        text, data = _run(store, head.run_id, chosen, depth, theme, step)
    data["format"] = chosen.value
    if output is not None:
        written = write_whole(output, text)
        data["path"] = str(written)
    elif json:
        data["drawing"] = text
    if json:
        print_json(data)
    elif output is not None:
        typer.echo(f"{chosen.value} written to {plain(str(written))}")
    else:
        _print(text)


def _by_suffix(output: Path | None) -> Form | None:
    """Return the form that a file's name asks for. Raises `BadParameter` for a suffix that says nothing."""
    if output is None or not output.suffix:
        return None
    found = _BY_SUFFIX.get(output.suffix.lower())
    if found is None:
        message = f"{output.suffix!r} names no form: give --format too, or one of {', '.join(_BY_SUFFIX)}"
        raise typer.BadParameter(message, param_hint="--output")
    return found


def _run_of(target: str, store: Path) -> RunRecord | None:
    """Return the run of this id; `None` if the target can only be a flow.

    Raises `CommandError`, `BadParameter`, `RunNotFound`.
    """
    could_be_flow = ":" in target
    if not (store / "data.mdb").is_file():
        if could_be_flow:
            return None
        message = (
            f"{target!r} is not such as beluga_graph.demo.pipeline:pipeline, "
            f"and there is no store at {store} that it could be a run of: name one with --store PATH"
        )
        raise typer.BadParameter(message, param_hint="MODULE:FLOW|RUN")
    try:
        with opened(store) as found:
            return read_head(found, check_run_id(target))
    except (BelugaError, StoreError):
        if could_be_flow:  # a store that cannot be read is no reason not to draw a flow
            return None
        raise


def _check(form: Form, *, run: bool, depth: int | None, theme: Shade, step: int | None) -> None:
    if step is not None and not run:
        raise typer.BadParameter("a flow has no steps: only a run is drawn as of one", param_hint="--step")
    if form is Form.html:
        given = {"--depth": depth is not None, "--theme": theme is not Shade.auto, "--step": step is not None}
        for option in (name for name, is_given in given.items() if is_given):
            message = "the page holds all of it, to fold, to light and to go through: it takes no such option"
            raise typer.BadParameter(message, param_hint=option)


def _flow(flow: Flow, form: Form, depth: int | None, theme: Shade) -> tuple[str, dict[str, Any]]:
    shape = flow.plan().shape
    text = flow.html() if form is Form.html else drawn(shape, _format(form), depth=depth, theme=theme.value)
    nodes = [{"name": node.name, "kind": node.kind} for node in shape.nodes.values()]
    return text, {"flow": shape.name, "plan": shape.fingerprint, "nodes": nodes}


def _run(
    store: Path, run_id: str, form: Form, depth: int | None, theme: Shade, step: int | None
) -> tuple[str, dict[str, Any]]:
    async def look(engine: Engine) -> tuple[str, dict[str, Any]]:
        with one_look(engine.store, run_id):
            head = read_head(engine.store, run_id)
            shape = stored_plan(engine.store, head).shape
            trail = trail_of(engine.store, head, shape, step, keep=False)
        if form is Form.html:
            text = await engine.html(run_id)
        else:
            text = drawn(shape, _format(form), depth=depth, trail=trail, theme=theme.value)
        nodes = [
            {"name": node.name, "kind": node.kind, **as_data(trail.mark(node.name))} for node in shape.nodes.values()
        ]
        known = {"run_id": run_id, "status": trail.run.status, "step": trail.run.seq}
        return text, {**known, "flow": shape.name, "plan": shape.fingerprint, "nodes": nodes}

    return with_engine(store, look)


def _format(form: Form) -> Format:
    return cast("Format", form.value)


def _print(text: str) -> None:
    """Print a drawing: to a terminal as `plain` lines, to whatever else the very bytes that a file would hold."""
    if sys.stdout.isatty():
        for line in text.splitlines():
            typer.echo(plain(line))
    else:
        typer.echo(text.encode(), nl=False)


def write_whole(path: Path, text: str) -> Path:
    """Put a file in its place, whole or not at all; return where it lies. Raises `OSError`."""
    target = path.resolve()
    if not target.parent.is_dir():
        raise CommandError(f"there is no folder {target.parent} to write {target.name} into: make it first")
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return target
