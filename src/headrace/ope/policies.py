"""Named policies over a log: what each would do at a row and, where it can tell, what that should bring.

    uniform            every channel alike
    constant:CHANNEL   the same channel for everybody
    past-rate          the channel of the largest past rate: the user's own on the channel, shrunk to the channel's
                       training rate plus what the user lies above or below it over all channels; both strengths are
                       fitted on validation
    trees              the channel of the largest gain that boosted trees expect, fitted on train, stopped on validation
    logged             the log itself, which every valuation carries as its baseline

past-rate and trees learn, so they are valued on steps that they did not learn from, and can rank users and steps: their
score is the largest expected gain.

n rows, M channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from headrace.errors import UserError, unknown
from headrace.evaluate.floor_features import check_same_schema, known_before, pasts
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import known_for_training
from headrace.ope.models import MOST_ROWS, Progress, fit_gain
from headrace.ope.valuation import reward_of, reward_weights

LEARNERS = ("past-rate", "trees")
NAMES = ("uniform", "logged", "constant:CHANNEL", *LEARNERS)
STRENGTHS = np.logspace(-1, 4, 16)  # of what a past rate is shrunk to, in steps
AT_ONCE = 200_000  # rows that are answered together


@dataclass(frozen=True, slots=True)
class Worth:
    """What a step is worth: gains by their weights less `penalty` times the cost."""

    weights: Mapping[str, float] = field(default_factory=dict)
    penalty: float = 0.0

    def of(self, journeys: Journeys, rows: Integers) -> Floats:
        """(n,) NaN where a gain is unknown."""
        return reward_of(journeys, rows, self.weights, self.penalty)


@dataclass(frozen=True, slots=True)
class Acts:
    """What a policy would do at n rows; `score` is the largest gain it expects, None where it expects nothing."""

    chances: Floats  # (n, M)
    score: Floats | None = None  # (n,)


Actor = Callable[[Journeys, Integers], Acts]


def check_name(name: str, also: str = "a run's folder") -> None:
    """UserError where no policy is called so."""
    if name in NAMES and name != "constant:CHANNEL":
        return
    if not name.startswith("constant:"):
        raise unknown("policy", name, [*NAMES, also])


def named(
    name: str,
    fitted: Journeys,
    split: Split | None = None,
    worth: Worth | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Actor:
    """The policy of this name, as a function of a log (the one fitted on, or one of the same schema) and its rows.

    Those of LEARNERS need a split. Raises UserError for unknown names and channels, and where a policy cannot learn.

    >>> import headrace, tempfile
    >>> folder = tempfile.mkdtemp() + "/log"
    >>> log = headrace.simulate_log(headrace.Scenario.load("ads"), 50, 2, "uniform", 0, folder)
    >>> named("constant:" + log.channels[1], log)(log, np.arange(3)).chances[0].argmax()
    np.int64(1)
    """
    check_name(name)
    m = len(fitted.channels)
    if name == "logged":
        raise UserError("policy logged: the log itself, the baseline of every valuation; it has no chances of its own")
    if name not in LEARNERS:
        return _fixed(np.full(m, 1 / m) if name == "uniform" else _one(name, fitted))
    if split is None:
        raise ValueError(f"policy {name} learns; give the split whose train and validation parts it may see")
    weights = reward_weights(fitted) if worth is None or not worth.weights else worth.weights
    worth = Worth(weights, 0.0 if worth is None else worth.penalty)
    if progress is not None:
        progress(f"fitting {name}")
    expect = (_past_rate if name == "past-rate" else _trees)(fitted, split, worth, seed)

    def act(journeys: Journeys, rows: Integers) -> Acts:
        if journeys is not fitted:
            check_same_schema(fitted, journeys)
        parts = [expect(journeys, rows[k : k + AT_ONCE]) for k in range(0, max(len(rows), 1), AT_ONCE)]
        return of_gains(np.concatenate(parts))

    return act


def of_gains(gains: Floats) -> Acts:
    """The channel of the largest gain; `gains` (n, M)."""
    return Acts(np.eye(gains.shape[1])[gains.argmax(axis=1)], gains.max(axis=1))


def _one(name: str, journeys: Journeys) -> Floats:
    channel = name.removeprefix("constant:")
    if channel not in journeys.channels:
        raise unknown("channel", channel, journeys.channels, f"policy {name}")
    return np.asarray(np.eye(len(journeys.channels))[journeys.channels.index(channel)])


def _fixed(chances: Floats) -> Actor:
    return lambda _, rows: Acts(np.repeat(chances[None], len(rows), axis=0))


def _rows(journeys: Journeys, split: Split, part: str, worth: Worth, seed: int) -> tuple[Integers, Floats]:
    """The part's rows with a known reward, which in train must have been known before the others began; (n,), (n,)."""
    rows = split.rows(part)
    if part == "train":
        for gain in worth.weights:
            rows = rows[known_for_training(journeys, split, gain)[rows]]
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
    reward = worth.of(journeys, rows)
    known = ~np.isnan(reward)
    if not known.any():
        raise UserError(
            f"{journeys.path}: no {part} step with a known {' and '.join(worth.weights)} under protocol "
            f"{split.protocol}; choose another gain or --protocol"
        )
    return rows[known], reward[known]


def _trees(fitted: Journeys, split: Split, worth: Worth, seed: int) -> Callable[[Journeys, Integers], Floats]:
    train, reward = _rows(fitted, split, "train", worth, seed)
    stop, stop_reward = _rows(fitted, split, "validation", worth, seed)
    tables = known_before(fitted, train), known_before(fitted, stop)
    gains = fit_gain(tables[0], reward, tables[1], stop_reward, len(fitted.channels), seed)
    return lambda journeys, rows: gains(known_before(journeys, rows, texts=fitted.categories))


@dataclass(frozen=True, slots=True)
class Rates:
    """What past rates are made of: each channel's training rate and the strengths of the two shrinkages."""

    channel: Floats  # (M,)
    to_channel: float = np.inf  # strength with which a user's lift over all channels is drawn to 0
    to_user: float = np.inf  # strength with which a user's rate on a channel is drawn to its rate plus the lift

    def of(self, number: Floats, total: Floats) -> Floats:
        """(n, M) expected gains after `number` steps of each channel that brought `total` of the gain, (n, M) each."""
        surplus = total.sum(axis=1) - number @ self.channel
        lift = surplus / (number.sum(axis=1) + self.to_channel)
        start = self.channel + lift[:, None]
        return np.asarray(start + (total - number * start) / (number + self.to_user))


def _past_rate(fitted: Journeys, split: Split, worth: Worth, seed: int) -> Callable[[Journeys, Integers], Floats]:
    m = len(fitted.channels)
    rates = {}
    for gain in worth.weights:
        if fitted.schema.gain(gain).known == "never":
            raise UserError(
                f"policy past-rate: gain {gain} is known = 'never' (a label only), so its past is no input; use trees"
            )
        alone = Worth({gain: 1.0})
        train, reward = _rows(fitted, split, "train", alone, seed)
        action = np.asarray(fitted.channel)[train].astype(np.int64)
        number, total = np.bincount(action, minlength=m), np.bincount(action, weights=reward, minlength=m)
        start = Rates((total + reward.mean()) / (number + 1.0))
        rates[gain] = _fit_strengths(fitted, gain, start, *_rows(fitted, split, "validation", alone, seed))
    cost = np.zeros(m)
    if worth.penalty:
        train, _ = _rows(fitted, split, "train", worth, seed)
        action = np.asarray(fitted.channel)[train].astype(np.int64)
        paid = np.asarray(fitted.column("cost"))[train].astype(np.float64)
        cost = (np.bincount(action, weights=paid, minlength=m) + paid.mean()) / (np.bincount(action, minlength=m) + 1.0)

    def expect(journeys: Journeys, rows: Integers) -> Floats:
        gains = np.repeat(-worth.penalty * cost[None], len(rows), axis=0)
        for gain, weight in worth.weights.items():
            gains += weight * rates[gain].of(*past_by_channel(journeys, rows, gain))
        return gains

    return expect


def _fit_strengths(journeys: Journeys, gain: str, start: Rates, rows: Integers, reward: Floats) -> Rates:
    """The strengths of least squared error on validation."""
    number, total = past_by_channel(journeys, rows, gain)
    chosen = np.arange(len(rows)), np.asarray(journeys.channel)[rows].astype(np.int64)

    def loss(rates: Rates) -> float:
        return float(((rates.of(number, total)[chosen] - reward) ** 2).mean())

    tried = [replace(start, to_channel=float(a), to_user=float(b)) for a in STRENGTHS for b in STRENGTHS]
    return min(tried, key=loss)


def past_by_channel(journeys: Journeys, rows: Integers, gain: str) -> tuple[Floats, Floats]:
    """How often the user met each channel with an outcome known before each row, and their sum, (n, M) each."""
    sums = np.zeros((len(rows), 2 * len(journeys.channels)))
    if journeys.schema.user is not None:
        for where, past in pasts(journeys, rows):
            sums[where] = past.sums(journeys, "user", "channel", of=gain)
    return sums[:, 0::2], sums[:, 1::2]
