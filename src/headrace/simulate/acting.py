"""MemoryPolicy: a policy that decides from histories, acting in the world.

The world shows what may be known of the users in turn; `Memory` keeps their last steps as a service would, and the
policy sees the very History that the written log would give it at that step (tests/simulate/test_acting.py holds the
two equal bit for bit). So a policy that was trained on logs can be valued by rollout:

    true_value(scenario, MemoryPolicy(method.policy()), users=10_000)

A users in turn, M channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.journeys.memory import Memory
from headrace.journeys.seams import ChannelPolicy, Floats, History
from headrace.journeys.statistics import Statistic
from headrace.simulate.ads import NO_AD, AdsWorld, Context, Outcomes
from headrace.simulate.log import categories, schema
from headrace.simulate.policies import AdPolicy


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """`policy` with a memory of its own in each world it is bound to."""

    policy: ChannelPolicy
    steps: int = 20  # how many steps a history holds
    statistics: tuple[Statistic, ...] | None = None  # running ones; None: the schema's default
    select: Callable[[History], Floats] | None = None  # (A,) probability of any advert; None: always one
    name: str = "memory"
    together: bool = False  # true where a statistic counts across users

    def bind(self, world: AdsWorld) -> AdPolicy:
        """The policy acting in `world`, nothing remembered yet."""
        return Remembering(self, world)


class Remembering:
    """A MemoryPolicy at work in one world."""

    def __init__(self, spec: MemoryPolicy, world: AdsWorld):
        self._spec = spec
        self.memory = WorldMemory(world, spec.steps, spec.statistics)

    def __call__(self, context: Context) -> Floats:
        histories = self.memory.histories(context)
        probabilities = np.asarray(self._spec.policy.probabilities(histories), dtype=np.float64)
        if self._spec.select is not None:
            probabilities = probabilities * np.asarray(self._spec.select(histories))[:, None]
        return probabilities

    def record(self, context: Context, outcomes: Outcomes) -> None:
        self.memory.record(context, outcomes)


class WorldMemory:
    """What a service would remember of a world's users."""

    def __init__(self, world: AdsWorld, steps: int = 20, statistics: tuple[Statistic, ...] | None = None):
        self._schema = schema(world.scenario)
        self._before = [f.name for f in self._schema.features if f.level == "step" and f.known == "before"]
        names = {column.split("/", 1)[1]: listed for column, listed in categories(world.scenario).items()}
        self._memory = Memory(self._schema, len(world.users), steps, dict(world.traits.features), statistics, names)

    def histories(self, context: Context) -> History:
        """What is known of the users of a context (or of a part of one) as they come."""
        return self._memory.histories(context["row"], self._known(context))

    def record(self, context: Context, outcomes: Outcomes) -> None:
        """Remember the adverts that were shown; an opportunity without one leaves no step, as in the log."""
        shown = np.flatnonzero(outcomes.channel != NO_AD)
        steps = {name: values[shown] for name, values in self._known(context).items()} | {
            "topic": outcomes.topic[shown],
            "channel": outcomes.channel[shown],
            "cost": outcomes.cost[shown],
            "click": outcomes.click[shown],
            "conversion": outcomes.conversion[shown],
            "revenue": outcomes.revenue[shown],
            "known_at/conversion": outcomes.conversion_time[shown],
            "known_at/revenue": outcomes.conversion_time[shown],
        }
        self._memory.append(context["row"][shown], steps)

    def _known(self, context: Context) -> Context:
        return {"time": context["time"]} | {name: context[name] for name in self._before}
