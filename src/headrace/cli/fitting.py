"""What the commands that fit share: the audit before, the settings and the provenance that a run keeps."""

from typing import Any

from headrace.errors import Refused, UserError
from headrace.journeys.audit import Finding, audit, has_leak
from headrace.journeys.schema import LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms, stored_as_numbers


def audited(
    journeys: Journeys, split: Split, transforms: Transforms | None = None, parent: Transforms | None = None
) -> list[Finding]:
    """The audit's findings; a leak is refused, but under `paper`, which exists to show it.

    `transforms` are a fitted run's: that they come from training steps alone is then a check of its own; `parent` those
    of the run that it went on from.
    """
    findings = audit(journeys, split, transforms, parent)
    if has_leak(findings) and split.protocol != "paper":
        worst = next(f for f in findings if f.verdict == "leak")
        raise Refused(f"{journeys.path}: {worst.check}: {worst.detail}; see  headrace data audit {journeys.path}")
    return findings


def settings(method: dict[str, Any], journeys: Journeys, split: Split) -> dict[str, Any]:
    """What config.json of a run holds: the method, its config and the split."""
    return {
        **method,
        "dataset": journeys.schema.name,
        "protocol": split.protocol,
        "split_seed": split.seed,
        "fold": split.fold,
    }


def provenance(journeys: Journeys, split: Split) -> dict[str, Any]:
    """What the manifest tells of the data."""
    return {
        "data": str(journeys.path.resolve()),
        "data_fingerprint": journeys.fingerprint,
        "split_fingerprint": split.fingerprint,
    }


def reward_changes(reward: str | None, schema: LogSchema) -> list[str]:
    """--reward as changes of the config."""
    if reward is None:
        return []
    known = [g.name for g in schema.gains if g.known != "never" and g.kind == "binary"]
    if reward == "penalised":
        if schema.cost is None:
            raise UserError(f"--reward penalised: schema {schema.name} has no cost column; choose a gain")
        return ["reward_target=penalised"]
    if reward in ("multi", "onehot"):
        if not known:
            raise UserError(
                f"--reward {reward}: schema {schema.name} has no binary gain that is known in time; name one"
            )
        weights = "reward_weights=" + ",".join(f"{g}:1" for g in known)
        return [weights] if reward == "multi" else [weights, "reward_target=onehot"]
    if ":" in reward:
        return [f"reward_weights={reward}"]
    schema.gain(reward)
    return [f"reward_weights={reward}:1"]


def foretold(method: Any, journeys: Journeys, split: Split) -> list[str]:
    """What is to be known before a fit: which ids a channel method reads as numbers, and how long the sessions are that
    a predictor's critics are to learn from."""
    from headrace.cli.rooms import room_of

    if room_of(method.name) == "channel":
        ordered = stored_as_numbers(journeys) if method.config.categories == "numbers" else []
        told = f"read as numbers: {', '.join(ordered)}; where their order says nothing, give  --set categories=both"
        return [told] if ordered else []
    if room_of(method.name) != "predict":
        return []
    from headrace.predict.sessions import lengths, rule_of, sessions

    config = method.config
    found = {
        part: sessions(journeys, split.rows(part), config.session, config.session_gap_minutes)
        for part in ("train", "test")
    }
    return [f"{part}: {lengths(s, rule_of(journeys, config.session)).sentence}" for part, s in found.items()]


def cut(method: str, journeys: Journeys, protocol: str, seed: int, fold: int | None) -> Split:
    """The split of a method's run: by time, fusion learns on 9 sessions of 10 and its estimators see the last."""
    from headrace.cli.rooms import room_of
    from headrace.journeys.splits import split

    if protocol == "time" and room_of(method) == "fuse":
        return split(journeys, protocol, seed, fold, (0.9, 0.0, 0.1))
    return journeys.split(protocol, seed, fold)
