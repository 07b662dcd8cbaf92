"""Journeys as one parquet file with its schema beside: what a decision log looks like to somebody else's tools.

Reading it back (`prepare` with the schema that stands beside) gives the same journeys, but for columns that no schema
names: an item's own features, and the mean of the density that the weights were drawn from.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headrace.errors import UserError
from headrace.journeys.schema import Fusion, LogSchema
from headrace.journeys.store import Array, Journeys


def export(journeys: Journeys, folder: str | Path) -> LogSchema:
    """Write `log.parquet` and `schema.toml` into a new folder; the schema that reads them."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: exists; choose a new folder")
    schema = journeys.schema
    if schema.user is None or schema.channel is not None:
        raise UserError(f"{journeys.path}: only logs with users and without channels are exported")
    held: dict[str, Any] = {schema.user: journeys.users[journeys.user_of_step]}
    for name, stored in ((schema.time, "time"), (schema.session, "session")):
        if name is not None:
            held[name] = journeys.column(stored)
    for f in schema.features:
        stored = f"user/{f.name}" if f.level == "user" else f"feature/{f.name}"
        values = journeys.column(stored)
        values = values[journeys.user_of_step] if f.level == "user" else values
        held[f.name] = _text(journeys, stored, values)
    for g in schema.gains:
        held[g.name] = _text(journeys, f"gain/{g.name}", journeys.gain(g.name))
        if g.known.startswith("at:"):
            held[g.known[3:]] = journeys.column(f"known_at/{g.name}")
    lists = schema.candidates if journeys.has("item_offsets") else None
    if lists is not None:
        lengths = np.diff(journeys.column("item_offsets"))
        columns = {lists.item: "item/id"} | {n: f"item/score/{n}" for n in lists.scores}
        columns |= {lists.position: "item/position"} if lists.position else {}
        renamed = {n: f"item_{n}" if n in held or n in columns else n for n in lists.outcomes}
        columns |= {f"item_score_{n}": columns.pop(n) for n in lists.scores if n in held}
        columns |= {renamed[n]: f"item/outcome/{n}" for n in lists.outcomes}
        for name, stored in columns.items():
            held[name] = _lists(journeys.column(stored), lengths)
        lists = replace(
            lists,
            scores=tuple(f"item_score_{n}" if f"item_score_{n}" in columns else n for n in lists.scores),
            outcomes=tuple(renamed.values()),
            negative=tuple(f"item_score_{n}" if f"item_score_{n}" in columns else n for n in lists.negative),
        )
    schema = replace(schema, candidates=lists, fusion=_fusion(journeys, held))
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(held).write_parquet(folder / "log.parquet")
    schema.save(folder / "schema.toml")
    return schema


def _fusion(journeys: Journeys, held: dict[str, Any]) -> Fusion | None:
    lists = journeys.schema.candidates
    if lists is None or not lists.scores or not journeys.has(f"action/{lists.scores[0]}"):
        return None
    names: dict[str, tuple[str, ...]] = {"action": (), "low": (), "high": ()}
    for kind in names:
        if journeys.has(f"{kind}/{lists.scores[0]}"):
            names[kind] = tuple(f"{kind}_{n}" for n in lists.scores)
            held.update({f"{kind}_{n}": journeys.column(f"{kind}/{n}") for n in lists.scores})
    flags = {n: n if journeys.has(n) else None for n in ("log_propensity", "terminated", "truncated")}
    held.update({n: journeys.column(n) for n in flags.values() if n})
    return Fusion(names["action"], names["low"], names["high"], **flags)


def _text(journeys: Journeys, stored: str, values: Array) -> Any:
    if stored not in journeys.categories:
        return values
    return pl.Series([*journeys.categories[stored], None], dtype=pl.String).gather(
        np.where(values < 0, len(journeys.categories[stored]), values)
    )


def _lists(values: Array, lengths: Array) -> pl.Series:
    """One list a step, from flat values."""
    frame = pl.DataFrame({"step": np.repeat(np.arange(len(lengths)), lengths), "value": values})
    made = frame.group_by("step", maintain_order=True).agg("value")
    whole = pl.DataFrame({"step": np.arange(len(lengths))}).join(made, on="step", how="left", maintain_order="left")
    return whole["value"]
