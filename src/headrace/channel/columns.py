"""Which columns of `Transforms.encode` tell what: the step's own context, and what the step before brought."""

from dataclasses import dataclass

from torch import Tensor

from headrace.errors import UserError
from headrace.journeys.statistics import GAP
from headrace.journeys.transforms import Transforms


@dataclass(frozen=True, slots=True)
class Columns:
    """Places among the ids and among the numbers."""

    ids: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def of(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """These columns of (..., all ids) and (..., all numbers)."""
        return ids[..., list(self.ids)], numbers[..., list(self.numbers)]

    def cardinalities(self, transforms: Transforms) -> list[int]:
        return [transforms.cardinalities[i] for i in self.ids]


@dataclass(frozen=True, slots=True)
class Groups:
    """The columns of a step by what they tell; what is in none of them (profile, statistics) is in `all` alone."""

    channel: int  # the id of the channel of the step before
    before: Columns  # known of the step itself before the decision, the gap since the last one among it
    context: Columns  # of the step before, in the order of `Transforms.encode_context`
    outcome: Columns  # what else the step before brought: gains, cost, reward


def groups(transforms: Transforms) -> Groups:
    """The columns of transforms whose schema names a channel."""
    schema = transforms.schema
    if schema.channel is None:
        raise UserError(f"schema {schema.name} names no channel")
    before: tuple[list[int], list[int]] = ([], [])
    context: tuple[list[int], list[int]] = ([], [])
    outcome: tuple[list[int], list[int]] = ([], [])
    ids = numbers = 0
    for f in schema.features:
        where = None if f.level == "user" else before if f.known == "before" else context
        if f.name in transforms.vocabularies:
            if where is not None:
                where[0].append(ids)
            ids += 1
        if f.name in transforms.scales:
            if where is not None:
                where[1].extend((numbers, numbers + 1))
            numbers += 2
    channel = ids
    ids += 1
    for g in schema.gains:
        if g.known == "never":
            continue
        if g.kind == "classes":
            outcome[0].append(ids)
            ids += 1
        else:
            outcome[1].extend((numbers, numbers + 1))
            numbers += 2
    if schema.cost is not None:
        (context if schema.cost.context else outcome)[1].extend((numbers, numbers + 1))
        numbers += 2
    if transforms.reward_is_input:
        outcome[1].extend((numbers, numbers + 1))
        numbers += 2
    if GAP in transforms.scales:
        before[1].extend((numbers, numbers + 1))
    return Groups(channel, *(Columns(tuple(i), tuple(n)) for i, n in (before, context, outcome)))
