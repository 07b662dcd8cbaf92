"""Journeys whose steps hold lists, as journeys of one item a step: what a predictor of items learns from.

Each item of a list that was seen becomes a step: the step's own features and the user's, the item's columns, and the
item's outcomes as gains. Items of a list share the time of their request, so none sees another's outcome. The session
column stays.

N steps, E exposures.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from headrace.errors import UserError
from headrace.journeys.schema import Feature, Gain
from headrace.journeys.seams import Integers
from headrace.journeys.statistics import user_chunks
from headrace.journeys.store import Array, Journeys, JourneysWriter

STEPS = 50_000  # of whole users, flattened at once


def exposures(journeys: Journeys, out: str | Path, progress: Callable[[str], None] | None = None) -> Journeys:
    """The journeys of every item that was seen; where the log does not say which were, of all that had a position."""
    schema, lists = journeys.schema, journeys.schema.candidates
    if lists is None or not journeys.has("item_offsets"):
        raise UserError(f"{journeys.path}: its steps hold no lists of items; use these journeys as they are")
    outcome = "item/outcome/"
    gains = [name for name in journeys.column_names if name.startswith(outcome) and name != f"{outcome}seen"]
    skipped = ("item/score/", outcome, "item/position")
    items = [n for n in journeys.column_names if n.startswith("item/") and not n.startswith(skipped)]

    def is_number(name: str) -> bool:
        return journeys.column(name).dtype.kind == "f"

    def named_as(name: str) -> str:
        """The id goes by the schema's name for it, as candidates do."""
        return lists.item if name == "item/id" else name.removeprefix("item/")

    kept = tuple(f for f in schema.features if f.level == "user" or f.known == "before")
    own = tuple(Feature(named_as(n), "numeric" if is_number(n) else "categorical", "after") for n in items)
    flat = replace(
        schema,
        name=f"{schema.name}-exposures",
        features=(*kept, *own),
        gains=tuple(Gain(n.removeprefix(outcome), "continuous" if is_number(n) else "binary") for n in gains),
        candidates=None,
        cost=None,
        propensity=None,
        label_window_s=None,
    )
    named = {f"user/{f.name}" if f.level == "user" else f"feature/{f.name}" for f in flat.features}
    categories = {k: v for k, v in journeys.categories.items() if k in named or k == "users"}
    categories |= {
        f"feature/{f.name}": journeys.categories[f"item/{f.name}"]
        for f in own
        if f"item/{f.name}" in journeys.categories
    }
    at = journeys.column("item_offsets")
    with JourneysWriter(out, flat, categories) as writer:
        for start, stop in user_chunks(journeys, STEPS):
            if progress is not None:
                progress(f"exposures: {stop / max(journeys.n_steps, 1):.0%}")
            users = np.arange(journeys.users_of(np.array([start]))[0], journeys.users_of(np.array([stop - 1]))[0] + 1)
            item, step = _seen(journeys, start, stop)
            columns: dict[str, Array] = {}
            for name in ("time", "session"):
                if journeys.has(name):
                    columns[name] = journeys.column(name)[step]
            for f in kept:
                if f.level == "user":
                    columns[f"user/{f.name}"] = journeys.feature(f.name)[users]
                else:
                    columns[f"feature/{f.name}"] = journeys.feature(f.name)[step]
            for name in items:
                columns[f"feature/{named_as(name)}"] = journeys.column(name)[item]
            for name in gains:
                columns[f"gain/{name.removeprefix(outcome)}"] = journeys.column(name)[item]
            lengths = np.bincount(np.searchsorted(users, journeys.users_of(step)), minlength=len(users))
            writer.append(journeys.column("users")[users], lengths, columns)
        return writer.close({"exposures_of": journeys.fingerprint, "lists": int(len(at) - 1)})


def _seen(journeys: Journeys, start: int, stop: int) -> tuple[Integers, Integers]:
    """(E,), (E,) the items that were seen in these steps, in the order they were shown, and the step of each."""
    at = journeys.column("item_offsets")
    item = np.arange(at[start], at[stop])
    step = np.repeat(np.arange(start, stop), np.diff(at[start : stop + 1]))
    place = np.asarray(journeys.column("item/position")[item]) if journeys.has("item/position") else np.zeros(len(item))
    seen = place >= 0
    if journeys.has("item/outcome/seen"):
        seen &= np.asarray(journeys.column("item/outcome/seen")[item]) == 1
    item, step, place = item[seen], step[seen], place[seen]
    order = np.lexsort((place, step))
    return item[order].astype(np.int64), step[order].astype(np.int64)
