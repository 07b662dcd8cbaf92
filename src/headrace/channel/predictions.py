"""What a channel method says of each labelled step. n steps, M channels."""

from dataclasses import dataclass, field

from headrace.journeys.seams import Floats, Integers


@dataclass(frozen=True, slots=True)
class Predictions:
    """Per step of `rows`: the next channel's probabilities, and what each channel is good for.

    That is each gain, and the cost, in its own unit; or, of a method that learns no gains, its `values`.
    """

    rows: Integers  # (n,) rows of the journeys
    action: Floats  # (n, M)
    reward: dict[str, Floats] = field(default_factory=dict)  # (n,) before the decision
    reward_by_channel: dict[str, Floats] = field(default_factory=dict)  # (n, M) for each candidate channel
    reward_in_context: dict[str, Floats] = field(default_factory=dict)  # (n,) given the channel and its context
    values: Floats | None = None  # (n, M) Q: the penalised reward of a channel and of what follows it, discounted,
    # in the scale of (3), 0 where nothing comes; minus infinity where the method rules a channel out. None: the method
    # is not value-based
