"""Going on with a stream: which steps of a log that has grown are new to a run, and which users stay held out.

The users of each part are those that the first run's split gave it, so whoever was held out stays so, however often a
run goes on. Labels are the steps from `until` on, and earlier ones of which a delayed outcome has been settled since;
everything earlier is history. Parts overlap in time, which is declared: a stream is judged by what comes next.

N steps.
"""

import hashlib
from dataclasses import replace

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Bools
from headrace.journeys.splits import SHARES, Split, by_users, uniform_of_users
from headrace.journeys.statistics import closed_at
from headrace.journeys.store import Journeys

PAST = "past"  # the part of earlier steps of validation users: on them is seen what was forgotten


def learnt_until(journeys: Journeys, split: Split) -> float:
    """The time from which a split's training steps leave a log to be learnt: just after the last of them."""
    assert journeys.time is not None
    return float(np.nextafter(np.max(journeys.time[split.rows("train")]), np.inf))


def onward(journeys: Journeys, protocol: str, seed: int, fold: int | None, until: float) -> Split:
    """The parts of what came since `until`, and `PAST`; protocol, seed and fold are those of the first run.

    Raises UserError where there is nothing to learn or to judge by.
    """
    if journeys.time is None:
        raise UserError(f"{journeys.path}: going on from a run needs a clock, to tell new steps, and this log has none")
    if protocol not in SHARES:
        raise UserError(
            f"going on from a run needs users that stay held out, and protocol {protocol} holds none; fit the first "
            f"run with {' or '.join(SHARES)}"
        )
    users = by_users(journeys, seed, fold, SHARES[protocol])
    new = _new(journeys, until)
    parts = {part: mask & new for part, mask in users.items()}
    for part in ("train", "validation"):
        if not parts[part].any():
            last = float(np.max(journeys.time)) if journeys.n_steps else None
            raise UserError(
                f"{journeys.path}: no step of a {part} user at {until:.16g} or later, where the run goes on (the log "
                f"ends at {last}); give a longer log"
            )
    parts[PAST] = users["validation"] & (np.asarray(journeys.time) < until)
    digest = hashlib.sha256(f"{protocol}:{seed}:{fold}:{until!r}:{journeys.fingerprint}".encode()).hexdigest()
    return Split(protocol, seed, fold, parts, ("time",), fingerprint=digest, until=until)


def rehearsing(journeys: Journeys, split: Split, share: float, seed: int) -> Split:
    """The split with some earlier steps of its training users among the training steps, `share` for each new one.

    They are drawn at random, the same for the same seed.
    """
    new = split.parts["train"]
    old = np.flatnonzero(of_training_users(journeys, split) & ~new)
    rng = np.random.default_rng([seed, 4001])
    drawn = rng.choice(old, min(len(old), round(share * int(new.sum()))), replace=False)
    train = new.copy()
    train[drawn] = True
    return replace(split, parts=split.parts | {"train": train})


def of_training_users(journeys: Journeys, split: Split) -> Bools:
    """(N,) all steps, new and earlier, of the users that may be learnt from."""
    return by_users(journeys, split.seed, split.fold, SHARES[split.protocol])["train"]


def unseen(journeys: Journeys, split: Split, other: Journeys) -> Bools:
    """(N,) the steps of another log whose users have no training steps in the run's own.

    Where the journeys of the training are gone (`journeys is other`): whose users' ids a split by users would not have
    put into training.
    """
    if other.schema.user is None:
        return np.ones(other.n_steps, dtype=np.bool_)
    if split.until is not None:  # the runs that it went on from learnt of users that this log need not hold
        return ~of_training_users(other, split)
    seen = np.zeros(other.n_users, dtype=np.bool_)
    if journeys is not other:
        train = np.unique(journeys.user_of_step[split.rows("train")])
        seen = np.isin(other.users, journeys.users[train])
    elif split.protocol in SHARES and split.fold is None:
        seen = uniform_of_users(other, split.seed, "part") < SHARES[split.protocol][0]
    return ~np.repeat(seen, np.diff(other.offsets))


def _new(journeys: Journeys, until: float) -> Bools:
    """(N,) the steps from `until` on, and earlier ones of which a delayed outcome was settled since."""
    time = np.asarray(journeys.time)
    new = time >= until
    for gain in (g.name for g in journeys.schema.gains if g.known.startswith("at:")):
        closed = closed_at(journeys, gain)
        new |= (closed >= until) & (closed <= time.max(initial=-np.inf))
    return new
