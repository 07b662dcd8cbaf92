"""Market: what a campaign is run against: the simulated world (world_market.py), or real users by way of files that
are exchanged with a company's own job (folder_market.py).

    while not market.done:
        rows = market.reachable()                        # who is here now
        ...                                              # predictions from market.histories(rows)
        channel, propensity = market.choose(chances)     # the draw; -1: no advert
        outcomes = market.expose(channel, propensity)    # what came of it; the next turn begins

A turn is one pass over the users who can be reached; some turns make a day. N users, A of them reachable, M channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.journeys.seams import Bools, Floats, History, Integers
from headrace.journeys.store import Journeys

NO_AD = -1


@dataclass(frozen=True, slots=True)
class Late:
    """n earlier adverts that more is known of since: what was known of their gains before, and what is now."""

    day: Integers  # (n,) of the advert
    channel: Integers  # (n,)
    before: dict[str, Floats]  # (n,) each
    after: dict[str, Floats]  # (n,) each


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a turn's adverts brought; 0 where none was shown."""

    gains: dict[str, Floats]  # (A,) each
    cost: Integers  # (A,) micros
    lost: Bools | None = None  # (A,) adverts that were not shown after all; None: every one was
    late: Late | None = None  # what a market tells of earlier adverts; None where all is told at once


@dataclass(frozen=True, slots=True)
class Worth:
    """One gain of all users over the whole time, whatever it came from."""

    attributed: Floats  # (N,) of the adverts themselves
    gross: Floats | None  # (N,) and without an advert in front of the user; None where only adverts are told of
    without: Floats | None  # (N,) gross if there had been no campaign; None where nobody can know


class Market(Protocol):
    """Users who come and go, channels to reach them, and a clock.

    A campaign that was killed calls `expose` again for the turn it died in, with the same choices; a live adapter must
    answer by (day, turn, user) what it answered before. The world does, since it is played again from its first day.
    """

    @property
    def channels(self) -> tuple[str, ...]: ...

    @property
    def gains(self) -> tuple[str, ...]: ...

    @property
    def users(self) -> int: ...

    @property
    def days(self) -> int: ...

    @property
    def day(self) -> int: ...

    @property
    def turn(self) -> int:
        """Of the day, from 0."""
        ...

    @property
    def done(self) -> bool: ...

    @property
    def largest_cost(self) -> Integers:
        """(M,) micros: the most that an exposure can cost, known before it."""
        ...

    @property
    def traffic(self) -> Floats:
        """(T,) how many users are to be expected at each turn of a day, by what is known before the turn."""
        ...

    def window_days(self, gain: str) -> float:
        """How long after an advert it is known what it brought of a gain, and what it did not."""
        ...

    def reachable(self) -> Integers:
        """(A,) the users who can be reached now, as numbers from 0."""
        ...

    def histories(self, users: Integers) -> History:
        """What is known of some of the users who can be reached now."""
        ...

    def choose(self, chances: Floats) -> tuple[Integers, Floats]:
        """A channel of each reachable user drawn from (A, M) chances, -1 for what they lack to 1; its propensity."""
        ...

    def expose(self, channel: Integers, propensity: Floats) -> Outcomes:
        """Show the adverts, (A,), -1 for none, and go to the next turn; `propensity` (A,) is the chance of the channel
        given an advert, or that of none."""
        ...

    def hold_out(self, share: float) -> Bools:
        """(N,) this share of the users, drawn once and for all, user by user: they are never to see an advert."""
        ...

    def journeys(self, path: Path) -> Journeys | None:
        """The decisions so far written as journeys with propensities; None where no advert was shown."""
        ...

    def close(self) -> dict[str, Worth]:
        """Let the rest of the days pass without adverts; what each gain came to, by user."""
        ...
