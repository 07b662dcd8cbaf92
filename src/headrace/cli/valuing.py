"""From the words of `headrace ope` to a valuation: which policies, on which rows, of which gain.

n rows, M channels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headrace.channel.methods import load
from headrace.channel.valuing import actor
from headrace.cli.measuring import open_run, own_schema
from headrace.cli.settings import open_journeys
from headrace.cli.valued_rows import Place, place, subgroups
from headrace.errors import UserError, unknown
from headrace.evaluate.results import Record, Source, save
from headrace.journeys.seams import Floats
from headrace.journeys.splits import PROTOCOLS
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.ope.account import account, journey_account
from headrace.ope.feedback import feedback
from headrace.ope.journey_value import DEFAULT as WITHOUT_NETWORKS
from headrace.ope.journey_value import ESTIMATORS as JOURNEY_ESTIMATORS
from headrace.ope.journey_value import JourneyValue, journey_value, transitions
from headrace.ope.policies import LEARNERS, Actor, Worth, check_name, named, reward_weights
from headrace.ope.propensities import WAYS, Propensities
from headrace.ope.records import journey_records, records
from headrace.ope.selection import by_lot, check_share, threshold
from headrace.ope.single import ESTIMATORS
from headrace.ope.valuation import Candidate, value
from headrace.report.page import write_page

Tell = Callable[[str], None]


class Flags(Protocol):
    """What the command was given."""

    @property
    def policies(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> Path: ...
    @property
    def gain(self) -> str | None: ...
    @property
    def penalty(self) -> float | None: ...
    @property
    def propensity(self) -> str | None: ...
    @property
    def select(self) -> float | None: ...
    @property
    def by(self) -> str: ...
    @property
    def journeys(self) -> bool: ...
    @property
    def networks(self) -> bool: ...
    @property
    def subgroup(self) -> str | None: ...
    @property
    def estimators(self) -> tuple[str, ...] | None: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def part(self) -> str: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, checked as far as the data allow."""

    flags: Flags
    names: tuple[str, ...]  # as results.json names them, in the order asked for
    runs: dict[str, Run]
    log: Journeys
    worth: Worth
    place: Place

    @classmethod
    def of(cls, flags: Flags) -> "Asked":
        """Raises UserError for every mistake that needs no fitting to be seen."""
        _check(flags)
        words = {word: Path(word) for word in flags.policies}
        folders = {word: path for word, path in words.items() if path.is_dir() or "/" in word}
        for word in words.keys() - folders.keys():
            check_name(word)
        opened = {word: open_run(path) for word, path in folders.items()}
        names = _names(flags.policies, opened)
        runs = {names[word]: run for word, run in opened.items()}
        first = next(iter(runs.values()), None)
        log = open_journeys(flags.data, None if first is None else own_schema(first))
        worth = _worth(flags, log, first)
        if log.schema.channel is None:
            raise UserError(f"{log.path}: schema {log.schema.name} names no channel, so there is nothing to choose")
        learns = flags.select is not None or any(word in LEARNERS for word in words)
        where = place(log, runs, learns, flags.protocol, flags.part, flags.seed)
        return cls(flags, tuple(names[word] for word in flags.policies), runs, log, worth, where)

    @property
    def settings(self) -> dict[str, Any]:
        """What stands in every record's `setting`: whatever is not the default of the log."""
        found: dict[str, Any] = {}
        usable = next((g.name for g in self.log.schema.gains if g.kind != "classes"), "")
        if dict(self.worth.weights) != {usable: 1.0}:
            found["gain"] = gain_words(self.worth.weights)
        if self.worth.penalty:
            found["penalty"] = self.worth.penalty
        if self.flags.select is not None:
            found["share"] = self.flags.select
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What results.json and ope.json will hold."""

    records: list[Record]
    account: dict[str, Any]


@dataclass(slots=True)
class _Candidates:
    of: dict[str, Candidate] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)


def answer(asked: Asked, tell: Tell) -> Answer:
    """Fit what has to be fitted, and value every policy on the same rows."""
    flags, log, rows = asked.flags, asked.log, asked.place.rows
    reward = asked.worth.of(log, rows)
    known = ~np.isnan(reward)
    parts = {} if flags.subgroup is None else subgroups(log, rows, flags.subgroup)
    made = _candidates(asked, tell)
    estimators = flags.estimators or ESTIMATORS
    found = value(
        made.of, log, rows, reward, flags.propensity, estimators, parts, seed=flags.seed, progress=lambda t: tell(t)
    )
    where = asked.place
    source = Source(log.schema.name, where.protocol, where.part, flags.seed, asked.settings, where.leaky)
    own = {name: {"by": flags.by} for name in asked.runs if flags.by != "value"}
    selected: Mapping[str, Floats | None] = {
        name: None if c.select is None else c.select[known] for name, c in made.of.items()
    }
    told = account(found, estimators, selected)
    for name, of in told["policies"].items():
        of |= made.told[name]
    users = log.schema.user is not None
    told |= {
        "gain": dict(asked.worth.weights),
        "penalty": asked.worth.penalty,
        "share": flags.select,
        "subgroup": flags.subgroup,
        "rows": int(known.sum()),
        "groups": len(np.unique(log.user_of_step[rows[known]])) if users else int(known.sum()),
        "grouped_by": "users" if users else "rows",
        "where": where.words,
        "asked": list(asked.names),
    }
    made_records = records(found, source, own)
    if flags.journeys:
        valued = _over_journeys(asked, made.of, reward, found.propensities, tell)
        made_records += journey_records(valued, source, own)
        told["journeys"] = journey_account(valued)
    return Answer(made_records, told)


def _over_journeys(
    asked: Asked, candidates: Mapping[str, Candidate], reward: Floats, held: Propensities, tell: Tell
) -> dict[str, JourneyValue]:
    """Every policy's value over journeys, on the same rows and the same states."""
    chance = np.ones(len(reward))
    chance[~np.isnan(reward)] = held.values
    estimators = JOURNEY_ESTIMATORS if asked.flags.networks else WITHOUT_NETWORKS
    found: dict[str, JourneyValue] = {}
    states, own = None, None
    for name, candidate in candidates.items():
        tell(f"journeys: {name}")
        of = feedback(asked.log, asked.place.rows, candidate.chances, reward, chance, seed=asked.flags.seed)
        states = transitions(asked.log, of) if states is None else states
        found[name] = journey_value(asked.log, of, estimators, seed=asked.flags.seed, states=states, own=own)
        own = found[name].own
    return found


def leave(found: Answer, asked: Asked, path: Path) -> None:
    """Write config, results, account and the page, and seal the folder."""
    flags = asked.flags
    config = {
        "command": "ope",
        "policies": list(asked.names),
        "runs": {name: run.path.resolve().name for name, run in asked.runs.items()},
        "gain": dict(asked.worth.weights),
        "penalty": asked.worth.penalty,
        "propensity": flags.propensity,
        "select": flags.select,
        "by": flags.by,
        "journeys": flags.journeys,
        "networks": flags.networks,
        "subgroup": flags.subgroup,
        "estimators": list(flags.estimators or ESTIMATORS),
        "protocol": asked.place.protocol,
        "part": asked.place.part,
        "seed": flags.seed,
    }
    split = asked.place.split
    run = Run.create(
        path,
        config,
        data=str(asked.log.path.resolve()),
        data_fingerprint=asked.log.fingerprint,
        split_fingerprint=None if split is None else split.fingerprint,
    )
    save(found.records, run.path / "results.json")
    run.write_json("ope.json", found.account)
    write_page(run.path)
    run.seal()


def gain_words(weights: Mapping[str, float]) -> str:
    """
    >>> gain_words({"click": 1.0}), gain_words({"click": 1.0, "conversion": 10.0})
    ('click', 'click:1,conversion:10')
    """
    if list(weights.values()) == [1.0]:
        return next(iter(weights))
    return ",".join(f"{name}:{weight:g}" for name, weight in weights.items())


def _candidates(asked: Asked, tell: Tell) -> _Candidates:
    made = _Candidates()
    where, share = asked.place, asked.flags.select
    for name in asked.names:
        if name == "logged":
            continue
        run = asked.runs.get(name)
        fitted, split = (where.fitted, where.split) if run is None else where.homes.get(name, (None, None))
        act: Actor
        if run is not None:
            act = actor(load(run), asked.worth, asked.flags.by)  # type: ignore[arg-type]  # checked in _check
        elif name in LEARNERS and split is None:
            raise UserError(
                f"policy {name}: learns from the journeys that the run was fitted on, and they are gone; prepare them "
                f"again beside the run, or leave {name} out"
            )
        else:
            act = named(name, fitted or asked.log, split, asked.worth, asked.flags.seed, tell)
        tell(f"asking {name}")
        acts = act(asked.log, where.rows)
        told: dict[str, Any] = {"what": _what(name, run, asked.flags.by), "chosen": _chosen(acts.chances, asked.log)}
        select = None
        if share is not None:
            if acts.score is None:
                select = by_lot(len(where.rows), share)
            elif fitted is None or split is None:
                raise UserError(
                    f"--select: the threshold is fixed on the validation part of {name}'s own journeys, and they are "
                    "gone; prepare them again beside the run, or leave --select out"
                )
            else:
                scores = act(fitted, split.rows("validation")).score
                assert scores is not None
                fixed = threshold(scores, share)
                select = fixed.chances(acts.score)
                told["threshold"] = fixed.at
            told["selected"] = float(select.mean())
        made.of[name] = Candidate(acts.chances, select)
        made.told[name] = told
    return made


def _what(name: str, run: Run | None, by: str) -> str:
    if run is not None:
        how = {"value": "the channel of the largest expected gain", "policy": "drawn as its action decoder says"}
        return f"run {run.path.resolve().name}: {how.get(by, 'the most probable channel of its action decoder')}"
    if name.startswith("constant:"):
        return f"{name.removeprefix('constant:')} for everybody"
    return {
        "uniform": "every channel alike",
        "past-rate": "the channel of the user's largest past rate",
        "trees": "the channel of the largest gain that boosted trees expect",
    }[name]


def _chosen(chances: Floats, log: Journeys) -> dict[str, float]:
    """How often the policy would choose each channel; of many channels, the ten most frequent."""
    share = chances.mean(axis=0)
    return {log.channels[i]: float(share[i]) for i in np.argsort(-share, kind="stable")[:10]}


def _check(flags: Flags) -> None:
    """Mistakes that need no data."""
    if not flags.policies:
        raise UserError("ope: POLICY_OR_RUN missing; name at least one, for example  headrace ope uniform --data LOG")
    twice = next((w for w in flags.policies if flags.policies.count(w) > 1), None)
    if twice is not None:
        raise UserError(f"ope: {twice} is named twice; name each policy once")
    if flags.by not in ("value", "policy", "greedy"):
        raise unknown("value of --by", flags.by, ("value", "policy", "greedy"))
    if flags.propensity is not None and flags.propensity not in WAYS:
        raise unknown("propensity", flags.propensity, WAYS)
    for name in flags.estimators or ():
        if name not in ESTIMATORS:
            raise unknown("estimator", name, ESTIMATORS)
    if flags.part not in ("test", "validation"):
        raise unknown("part", flags.part, ("test", "validation"))
    if flags.protocol is not None and flags.protocol not in PROTOCOLS:
        raise unknown("protocol", flags.protocol, PROTOCOLS)
    if flags.select is not None:
        check_share(flags.select)
    if flags.journeys and flags.select is not None:
        raise UserError(
            "ope: --journeys values policies that advertise at every step; leave --select out, or --journeys"
        )
    if flags.networks and not flags.journeys:
        raise UserError("ope: --networks says how --journeys are valued; add  --journeys")
    if flags.penalty is not None and not (math.isfinite(flags.penalty) and flags.penalty >= 0):
        raise UserError(f"--penalty {flags.penalty}: expected 0 or more, reward per unit of cost")


def _names(words: tuple[str, ...], runs: Mapping[str, Run]) -> dict[str, str]:
    """What results.json calls each word: a run by its method, or by its folder where that would be ambiguous."""
    methods = [run.config["method"] for run in runs.values()]
    names = {word: word for word in words}
    for word, run in runs.items():
        method = run.config["method"]
        names[word] = method if methods.count(method) == 1 else run.path.resolve().name
    if len(set(names.values())) < len(names):
        raise UserError(f"ope: the folders {', '.join(runs)} have equal names; rename one of them")
    return names


def _worth(flags: Flags, log: Journeys, run: Run | None) -> Worth:
    weights = _weights(flags.gain) if flags.gain is not None else _reward_of(run) or reward_weights(log)
    penalty = flags.penalty
    if penalty is None:
        config = {} if run is None or flags.gain is not None else run.config["config"]
        penalty = config["penalty"] if config.get("reward_target") == "penalised" else 0.0
    for name in weights:
        if log.schema.gain(name).kind == "classes":
            raise UserError(f"--gain {name}: has classes and no size; a value needs another gain")
    if penalty and log.schema.cost is None:
        raise UserError(f"--penalty {penalty:g}: schema {log.schema.name} has no cost; leave --penalty out")
    return Worth(weights, penalty)


def _reward_of(run: Run | None) -> dict[str, float]:
    return {} if run is None else dict(load(run).reward_weights)


def _weights(text: str) -> dict[str, float]:
    """The gains of --gain with their weights.

    >>> _weights("click"), _weights("click:1,conversion:10")
    ({'click': 1.0}, {'click': 1.0, 'conversion': 10.0})
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number) or name in found:
            raise UserError(f"--gain {text}: expected a gain, or gains with weights such as  click:1,conversion:10")
        found[name] = number
    return found
