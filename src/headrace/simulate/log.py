"""simulate: let a policy advertise in a world, and write what a log would show of it as journeys.

A step is an exposure; opportunities without an advert leave no row, users without an exposure no journey. Purchases
without an advert belong to no step: their totals stand in the notes. The propensity is that of showing this very
channel at the opportunity; a policy that may show nothing leaves fewer rows than opportunities, and its rows alone give
no unbiased estimate for a policy that shows more. A missing conversion is known to be missing only
when its window has passed, so that "not known yet" says nothing about the outcome.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.simulate.ads import NO_AD, TOTALS, AdsWorld, Context, Outcomes
from headrace.simulate.blocks import blocks
from headrace.simulate.draws import Floats
from headrace.simulate.policies import Acting, binding, name_of, rollout
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import USER_FEATURES, feature_categories

BLOCK = 16_384  # users simulated at once: about what the processor's caches hold

Progress = Callable[[int, int], None]  # user-days done, user-days in all


def schema(scenario: Scenario) -> LogSchema:
    """What a simulated advertising log shows, and when each value is known."""
    categorical = feature_categories(scenario)
    users = [
        Feature(name, "categorical" if name in categorical else "numeric", "before", "user") for name in USER_FEATURES
    ]
    steps = (
        Feature("hour", "numeric"),
        Feature("placement", "categorical"),
        Feature("days_since_last_visit", "numeric"),
        Feature("topic", "categorical", "after"),
    )
    return LogSchema(
        name=f"world-{scenario.name}",
        user="user",
        time="time",
        time_unit="ms",
        channel="channel",
        channels=scenario.channels,
        features=(*users, *steps),
        gains=(
            Gain("click", "binary", "after"),
            Gain("conversion", "binary", "at:conversion_time"),
            Gain("revenue", "continuous", "at:conversion_time"),
        ),
        cost=Cost("cost", scenario.currency),
        propensity="propensity",
        label_window_s=scenario.ads.conversion_window_days * 86_400,
    )


def categories(scenario: Scenario) -> dict[str, list[str]]:
    """The names behind the codes of the categorical columns."""
    users = {f"user/{name}": names for name, names in feature_categories(scenario).items()}
    placements = [place.name for place in scenario.ads.placements]
    return {**users, "feature/placement": placements, "feature/topic": list(scenario.topics)}


def simulate(
    scenario: Scenario,
    users: int,
    days: int | None,
    policy: Acting,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
) -> Journeys:
    """Journeys of `users` users over `days` (None: the scenario's) under `policy`: a name, a callable, or a `Binds`.

    Equal scenario, users, days, policy and seed give an equal fingerprint. A callable acts on all users in calendar
    order; policies that look at one user at a time (named ones are such) are simulated block by block.
    """
    days = scenario.days_of(days)
    bind, together = binding(policy, scenario)
    totals = dict.fromkeys(TOTALS, 0.0)
    with JourneysWriter(out, schema(scenario), categories(scenario)) as writer:
        for members in blocks(users, users if together else BLOCK):
            world = AdsWorld(scenario, members, seed, days)
            acting = bind(world)
            steps = []
            day = 0
            for exposures in rollout(world, acting):
                steps.append(Step.of(exposures.context, exposures.propensity, exposures.outcomes))
                if progress and world.day > day:
                    day = world.day
                    progress(int(members[0]) * days + len(world.users) * day, users * days)
            append_steps(writer, world, steps)
            for name, values in world.totals.items():
                totals[name] += float(values.sum())
        if totals["exposures"] == 0:
            raise UserError(
                "the policy showed no advert, so there is nothing to log; choose another policy or more days"
            )
        notes = {
            "scenario": scenario.to_dict(),
            "scenario_sha256": scenario.sha256,
            "users": users,
            "days": days,
            "seed": seed,
            "policy": name_of(policy),
            "totals": totals,
        }
        return writer.close(notes)


@dataclass(frozen=True, slots=True)
class Step:
    """The exposures of one step: the world's rows (A,) and the log's columns, (A,) each."""

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, context: Context, propensity: Floats, outcomes: Outcomes) -> "Step":
        columns = {
            "time": context["time"],
            "channel": outcomes.channel.astype(np.int32),
            "cost": outcomes.cost,
            "propensity": propensity,
            "feature/hour": context["hour"],
            "feature/placement": context["placement"].astype(np.int32),
            "feature/days_since_last_visit": context["days_since_last_visit"].astype(np.float64),
            "feature/topic": outcomes.topic.astype(np.int32),
            "gain/click": outcomes.click.astype(np.int8),
            "gain/conversion": outcomes.conversion.astype(np.int8),
            "gain/revenue": outcomes.revenue,
            "known_at/conversion": outcomes.conversion_time,
            "known_at/revenue": outcomes.conversion_time,
        }
        if (outcomes.channel != NO_AD).all():
            return cls(context["row"], columns)
        shown = outcomes.channel != NO_AD
        return cls(context["row"][shown], {name: values[shown] for name, values in columns.items()})


def append_steps(writer: JourneysWriter, world: AdsWorld, steps: list[Step]) -> None:
    """Write the steps of a world user by user; they come in time order."""
    if not steps:
        return
    rows = np.concatenate([step.rows for step in steps])
    order = np.argsort(rows, kind="stable")
    columns = {name: np.concatenate([s.columns[name] for s in steps])[order] for name in steps[0].columns}
    lengths = np.bincount(rows, minlength=len(world.users))
    seen = np.flatnonzero(lengths)
    for name in USER_FEATURES:
        columns[f"user/{name}"] = world.traits.features[name][seen]
    writer.append(world.users[seen], lengths[seen], columns)
