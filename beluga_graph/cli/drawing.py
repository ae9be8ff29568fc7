"""Drawing: a flow as it is in code, or a run over the graph that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer

from beluga_graph import Engine, RunNotFound
from beluga_graph.cli.ends import Unfit
from beluga_graph.cli.looking import console, load_flow, print_json, with_engine
from beluga_graph.cli.shown import plain
from beluga_graph.draw.formats import Format, Theme, drawn

__all__ = ["draw"]


def draw(
    target: str,
    store: Path,
    *,
    form: Format | Literal["html"],
    depth: int | None,
    theme: Theme,
    seq: int | None,
    output: Path | None,
    json: bool,
) -> None:
    """Draw a run of the store, if there is one of this id; else the flow that is named."""
    found = _drawn_run(target, store, form=form, depth=depth, theme=theme, seq=seq)
    if found is None:
        if ":" not in target:
            raise Unfit(f"there is no run {target!r} in {store}; a flow is named as package.module:name")
        if seq is not None:
            raise typer.BadParameter("a flow has no steps; name a run", param_hint="--step")
        flow = load_flow(target)
        shape = flow.plan().shape
        text = flow.html() if form == "html" else drawn(shape, form, depth=depth, theme=theme)
        nodes = [{"name": node.name, "kind": node.kind} for node in shape.nodes.values()]
        found = {"flow": shape.name, "plan": shape.fingerprint, "nodes": nodes, "format": form, "drawing": text}
    if output is not None:
        output.write_text(found.pop("drawing"), encoding="utf-8")
        found["path"] = str(output)
    if json:
        print_json(found)
    elif output is not None:
        console().print(f"{form} of {plain(target)} is in {plain(str(output))}", soft_wrap=True)
    else:
        typer.echo(found["drawing"], nl=False)


def _drawn_run(
    run_id: str, store: Path, *, form: Format | Literal["html"], depth: int | None, theme: Theme, seq: int | None
) -> dict[str, Any] | None:
    """Return a run's drawing and what it is of; `None` if the store has no such run, or is none."""
    if not (store / "data.mdb").is_file():
        return None

    async def look(engine: Engine) -> dict[str, Any] | None:
        try:
            await engine.status(run_id)
        except RunNotFound:
            return None
        trail = await engine.trail(run_id, seq)
        text = (
            await engine.html(run_id)
            if form == "html"
            else drawn(trail.shape, form, depth=depth, trail=trail, theme=theme)
        )
        told = {"run_id": run_id, "status": trail.run.status, "step": trail.run.seq, "flow": trail.shape.name}
        return {**told, "plan": trail.shape.fingerprint, "format": form, "drawing": text}

    return with_engine(store, look)
