"""`draw`: a flow, or a run over its graph, in any of the formats."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

import beluga_graph
from beluga_graph import BelugaError
from beluga_graph.cli.console import load_flow, print_json, with_engine
from beluga_graph.cli.exit_codes import CommandError
from beluga_graph.cli.options import Json, Store, command, default_store
from beluga_graph.cli.terminal_text import to_printable
from beluga_graph.codec.to_json import to_json
from stores import StoreError

if TYPE_CHECKING:
    from beluga_graph.flows.flow import Flow
    from beluga_graph.trace.trace import Trace

app = typer.Typer()


class Form(StrEnum):
    """The format of a drawing."""

    svg = "svg"
    mermaid = "mermaid"
    dot = "dot"
    ascii = "ascii"
    html = "html"


class Shade(StrEnum):
    """The colours of a drawing; auto follows the reader's preference."""

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


@command(app)
def draw(
    target: Annotated[
        str,
        typer.Argument(
            help="A run's id, or a flow such as package.module:name. If the store has a run of that id, the run is "
            "drawn; otherwise the module is imported.",
            metavar="MODULE:FLOW|RUN",
            show_default=False,
        ),
    ],
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="The format. By default that of the suffix of --output; without one, mermaid for a flow and ascii "
            "for a run.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", help="Fold sub-flows deeper than this; 0 folds all.", metavar="N", min=0, show_default=False
        ),
    ] = None,
    theme: Annotated[
        Shade, typer.Option("--theme", help="Colours of an svg; auto follows the reader's preference.")
    ] = Shade.auto,
    step: Annotated[
        int | None,
        typer.Option(
            "--step", help="Draw a run as of this step; by default the last.", metavar="N", min=0, show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="The file to write, completely or not at all.", metavar="PATH", show_default=False
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Draw a flow, or a run over its graph. A run is drawn from the store alone, without its code.

    The drawing goes to standard output, or to a file. The same flow, or the same step of a run, gives the same bytes.
    The html of a run is a page that replays it.
    """
    is_run = _is_run(target, store)
    chosen = form or _format_of(output) or (Form.ascii if is_run else Form.mermaid)
    _check_options(chosen, is_run=is_run, depth=depth, theme=theme, step=step)
    if is_run:
        text, facts = _draw_run(store, target, chosen, depth, theme, step, json=json)
    else:
        text, facts = _draw_flow(load_flow(target), chosen, depth, theme)
    facts["format"] = chosen.value
    if output is not None:
        written = _write_atomically(output, text)
        facts["path"] = str(written)
    elif json:
        facts["drawing"] = text
    if json:
        print_json(facts)
    elif output is not None:
        typer.echo(f"{chosen.value} written to {to_printable(str(written))}")
    else:
        _print_drawing(text)


def _format_of(output: Path | None) -> Form | None:
    """Return the format of a file's suffix. Raises `BadParameter` for a suffix that is not known."""
    if output is None or not output.suffix:
        return None
    found = _BY_SUFFIX.get(output.suffix.lower())
    if found is None:
        message = f"{output.suffix!r} is not the suffix of a format: add --format, or use {', '.join(_BY_SUFFIX)}"
        raise typer.BadParameter(message, param_hint="--output")
    return found


def _is_run(target: str, store: Path) -> bool:
    """Return whether the store has a run of this id; if not, the target can be a flow.

    Raises `CommandError`, `BadParameter`, `RunNotFound` if the target cannot be a flow either.
    """
    could_be_flow = ":" in target
    if not (store / "data.mdb").is_file():
        if could_be_flow:
            return False
        message = (
            f"{target!r} is not a flow, such as beluga_graph.demo.pipeline:pipeline, "
            f"and there is no store at {store} that could have such a run: name one with --store PATH"
        )
        raise typer.BadParameter(message, param_hint="MODULE:FLOW|RUN")
    try:
        with_engine(store, lambda engine: engine.status(target))
    except (BelugaError, StoreError):
        if could_be_flow:  # a store that cannot be read must not prevent drawing a flow
            return False
        raise
    return True


def _check_options(form: Form, *, is_run: bool, depth: int | None, theme: Shade, step: int | None) -> None:
    if step is not None and not is_run:
        raise typer.BadParameter("a flow has no steps: only a run can be drawn as of a step", param_hint="--step")
    if form is Form.html:
        given = {"--depth": depth is not None, "--theme": theme is not Shade.auto, "--step": step is not None}
        for option in (name for name, is_given in given.items() if is_given):
            message = "the html page already shows all steps and depths in both themes: leave this option out"
            raise typer.BadParameter(message, param_hint=option)


def _draw_flow(flow: Flow, form: Form, depth: int | None, theme: Shade) -> tuple[str, dict[str, Any]]:
    if form is Form.html:
        text = flow.html()
    elif form is Form.svg:
        text = flow.svg(depth=depth, theme=theme.value)
    else:
        text = {Form.mermaid: flow.mermaid, Form.dot: flow.dot, Form.ascii: flow.ascii}[form](depth=depth)
    shape = flow.plan().shape
    nodes = [{"name": node.name, "kind": node.kind} for node in shape.nodes.values()]
    return text, {"flow": shape.name, "plan": shape.fingerprint, "nodes": nodes}


def _draw_run(
    store: Path, run_id: str, form: Form, depth: int | None, theme: Shade, step: int | None, *, json: bool
) -> tuple[str, dict[str, Any]]:
    """Return the drawing of a run; for JSON also the facts that it shows."""

    async def look(engine: beluga_graph.Engine) -> tuple[str, dict[str, Any]]:
        seq, facts = step, {}
        if json:
            trail = await engine.trail(run_id, step)
            seq, facts = trail.run.seq, _facts_of(run_id, trail)
        if form is Form.html:
            return await engine.html(run_id), facts
        name = cast('Literal["svg", "mermaid", "dot", "ascii"]', form.value)
        return await engine.draw(run_id, format=name, depth=depth, seq=seq, theme=theme.value), facts

    return with_engine(store, look)


def _facts_of(run_id: str, trail: Trace) -> dict[str, Any]:
    shape = trail.shape
    nodes = [
        {"name": node.name, "kind": node.kind, **to_json(trail.summarize(node.name))} for node in shape.nodes.values()
    ]
    known = {"run_id": run_id, "status": trail.run.status, "step": trail.run.seq}
    return {**known, "flow": shape.name, "plan": shape.fingerprint, "nodes": nodes}


def _print_drawing(text: str) -> None:
    """Print a drawing: `plain` lines to a terminal, and exactly the bytes of a file to a pipe."""
    if sys.stdout.isatty():
        for line in text.splitlines():
            typer.echo(to_printable(line))
    else:
        typer.echo(text.encode(), nl=False)


def _write_atomically(path: Path, text: str) -> Path:
    """Write a file completely or not at all, and return its resolved path. Raises `CommandError`, `OSError`."""
    target = path.resolve()
    if not target.parent.is_dir():
        raise CommandError(f"there is no folder {target.parent} to write {target.name} into: create it first")
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
