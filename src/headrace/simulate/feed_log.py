"""simulate_feed: let a policy rank a feed, and write what a log would show of it as journeys.

Beside the schema's columns a step has "session" (the user's sessions counted from 0), "terminated" (the user left in
this request) and "truncated" (the session was cut after it); where the policy gave fusion weights "action/BEHAVIOUR",
where it drew them from a density "mean/...", "low/..." and "high/..." (the box), and where it was random at all
"log_propensity", the exact log of the probability or density of the action. A list's items stand in the candidates'
order: "item/id", "item/topic", "item/duration_s", "item/score/...", "item/position" (0 the first shown, -1 not shown)
and "item/outcome/...".

A requests, C candidates, k shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Predictor
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.simulate.blocks import blocks
from headrace.simulate.feed import TOTALS, FeedWorld
from headrace.simulate.feed_policies import FeedPolicy, FeedStep, named, rollout
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.feed_schema import BEFORE, COUNTS, ITEM_OUTCOMES, categories, item_columns, schema, step_columns
from headrace.simulate.feed_users import FEED_USER_FEATURES
from headrace.simulate.scenario import Scenario

BLOCK = 1024  # users simulated at once by named policies: bounds the memory that the lists need
_AT_ONCE = 2048  # steps whose lists are laid out at once

Lists = Literal["all", "shown", "none"]
Progress = Callable[[int, int], None]  # user-days done, user-days in all


def simulate_feed(
    scenario: Scenario,
    users: int,
    days: int | None,
    policy: str | FeedPolicy,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
    predictor: Predictor | None = None,
    lists: Lists = "all",
) -> Journeys:
    """Journeys of `users` users over `days` (None: the scenario's) under `policy`, a name or a callable.

    `lists`: which candidates are written: all with their scores, those shown, or none. `predictor` replaces the
    scenario's. Equal scenario, users, days, policy and seed give an equal fingerprint. A callable acts on all users in
    calendar order; named policies look at one user at a time, so their users are simulated block by block.
    """
    if lists not in ("all", "shown", "none"):
        raise unknown("lists", lists, ("all", "shown", "none"))
    days = scenario.days_of(days)
    bind = named(policy, scenario) if isinstance(policy, str) else None
    totals = dict.fromkeys(TOTALS, 0.0)
    with JourneysWriter(out, schema(scenario), categories(scenario)) as writer:
        for members in blocks(users, BLOCK if bind else users):
            world = FeedWorld(scenario, members, seed, days, predictor)
            acting = bind(world) if bind else policy
            assert not isinstance(acting, str)
            steps: list[_Step] = []
            day = 0
            for step in rollout(world, acting, keep_scores=lists != "none"):
                steps.append(_Step.of(world, step, lists))
                if progress and world.day > day:
                    day = world.day
                    progress(int(members[0]) * days + len(world.users) * day, users * days)
            _append(writer, world, steps)
            for name, values in world.totals.items():
                totals[name] += float(values.sum())
        if totals["requests"] == 0:
            raise UserError("nobody came, so there is nothing to log; simulate more users or more days")
        notes = {
            "scenario": scenario.to_dict(),
            "scenario_sha256": scenario.sha256,
            "users": users,
            "days": days,
            "seed": seed,
            "policy": policy if isinstance(policy, str) else type(policy).__name__,
            "predictor": "scenario" if predictor is None else type(predictor).__name__,
            "lists": lists,
            "totals": totals,
        }
        return writer.close(notes)


class FeedLog:
    """A log that is written again each night, of a world whose days are still passing; lists are left out."""

    def __init__(self, world: FeedWorld):
        self.world = world
        self._steps: list[_Step] = []

    def add(self, step: FeedStep) -> None:
        self._steps.append(_Step.of(self.world, step, "none"))

    def write(self, out: str | Path) -> Journeys:
        """All days that are over, as journeys."""
        scenario = self.world.scenario
        with JourneysWriter(out, schema(scenario), categories(scenario)) as writer:
            _append(writer, self.world, self._steps)
            return writer.close({"scenario_sha256": scenario.sha256, "days": self.world.day, "lists": "none"})


@dataclass(frozen=True, slots=True)
class _Step:
    """The requests of one step, kept small until they are written."""

    rows: NDArray[np.int64]  # (A,)
    day: NDArray[np.int64]  # (A,)
    columns: dict[str, NDArray[Any]]  # (A,) each
    lists: dict[str, NDArray[Any]]  # (A, C) or, of those shown, (A, k)

    @classmethod
    def of(cls, world: FeedWorld, step: FeedStep, lists: Lists) -> "_Step":
        context, action, outcomes = step.requests.context, step.action, step.outcomes
        made = step_columns(world, context, outcomes)
        columns: dict[str, NDArray[Any]] = {
            "time": context["time"],
            "session": step.session,
            **{f"feature/{name}": made[name] for name in (*BEFORE, "topic", "duration_s")},
            "gain/dwell_s": made["dwell_s"],
            **{f"gain/{name}": made[name].astype(np.int8) for name in (*COUNTS, "exit")},
            "terminated": outcomes.terminated.astype(np.int8),
            "truncated": outcomes.truncated.astype(np.int8),
        }
        shape = (len(step.requests), len(BEHAVIOURS))
        boxed: dict[str, Any] = {"mean": action.mean, "low": action.low, "high": action.high}
        if action.values.shape[-1] == len(BEHAVIOURS):
            boxed = {"action": action.values} | boxed
        for name, part in boxed.items():
            if part is not None:
                whole = np.broadcast_to(np.asarray(part, dtype=np.float64), shape)
                columns |= {f"{name}/{behaviour}": whole[:, k] for k, behaviour in enumerate(BEHAVIOURS)}
        if action.log_propensity is not None:
            columns["log_propensity"] = np.asarray(action.log_propensity, dtype=np.float64)
        held: dict[str, NDArray[Any]] = {}
        if lists != "none":
            assert step.planes is not None
            planes: Sequence[NDArray[np.float32]] = list(step.planes)
            held = {"id": step.requests.items, "shown": outcomes.shown}
            if lists == "shown":
                planes = [np.take_along_axis(plane, outcomes.shown, axis=1) for plane in planes]
                held = {"id": outcomes.items}
            held |= {f"score/{name}": plane for name, plane in zip(BEHAVIOURS, planes, strict=True)}
            held |= {f"outcome/{name}": outcomes.by_item[name] for name in ITEM_OUTCOMES}
        return cls(context["row"], context["day"], columns, held)


def _append(writer: JourneysWriter, world: FeedWorld, steps: list[_Step]) -> None:
    """Write the steps of a world user by user; a user's come in time order."""
    if not steps:
        return
    rows = np.concatenate([step.rows for step in steps])
    day = np.concatenate([step.day for step in steps])
    columns = {name: np.concatenate([step.columns[name] for step in steps]) for name in steps[0].columns}
    lists = {name: np.concatenate([step.lists.pop(name) for step in steps]) for name in tuple(steps[0].lists)}
    came, known = (np.stack(part) for part in zip(*world.returned, strict=True))
    columns["gain/returned"] = came[day, rows].astype(np.int8)
    columns["known_at/returned"] = known[day, rows]
    order = np.argsort(rows, kind="stable")
    lengths = np.bincount(rows, minlength=len(world.users))
    users = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[users])
    first = done = 0
    while first < len(users):  # as many users at a time as have _AT_ONCE steps, or one
        last = max(first + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        chosen, at = users[first:last], order[done : ends[last - 1]]
        written = {name: values[at] for name, values in columns.items()}
        for name in FEED_USER_FEATURES:
            written[f"user/{name}"] = world.own.features[name][chosen]
        items = _items(world, {name: values[at] for name, values in lists.items()}) if lists else None
        count = np.full(len(at), len(items["item/id"]) // len(at)) if items else None
        writer.append(world.users[chosen], lengths[chosen], written, items, count)
        first, done = last, int(ends[last - 1])


def _items(world: FeedWorld, lists: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The item columns of some steps, flat."""
    n, k = lists["outcome/seen"].shape
    places = np.broadcast_to(np.arange(k, dtype=np.int16), (n, k))

    def spread(of_shown: NDArray[Any], otherwise: int) -> NDArray[Any]:
        if "shown" not in lists:
            return of_shown
        whole = np.full(lists["id"].shape, otherwise, dtype=of_shown.dtype)
        np.put_along_axis(whole, lists["shown"], of_shown, axis=1)
        return whole

    visible = item_columns(world.items, lists["id"])
    columns = {"item/id": visible["item"], "item/topic": visible["topic"], "item/duration_s": visible["duration_s"]}
    columns |= {f"item/score/{name}": lists[f"score/{name}"] for name in BEHAVIOURS}
    columns["item/position"] = spread(places, -1)
    for name in ITEM_OUTCOMES:
        of_shown = lists[f"outcome/{name}"].astype(np.float32 if name == "play_s" else np.int8)
        columns[f"item/outcome/{name}"] = spread(of_shown, 0)
    return {name: values.reshape(-1) for name, values in columns.items()}
