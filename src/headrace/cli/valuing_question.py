"""What `headrace ope` was asked: policies, rows and gain, checked before anything is fitted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from headrace.channel.valuing import By
from headrace.cli.measuring import open_run, own_schema
from headrace.cli.ope import Ope
from headrace.cli.rooms import load_channel
from headrace.cli.settings import open_journeys
from headrace.cli.valued_rows import Place, place
from headrace.errors import UserError, unknown
from headrace.journeys.splits import PROTOCOLS
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.ope.policies import LEARNERS, Worth, check_name
from headrace.ope.propensities import WAYS
from headrace.ope.selection import check_share
from headrace.ope.single import ESTIMATORS, recommended
from headrace.ope.valuation import reward_weights


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, checked as far as the data allow."""

    flags: Ope
    names: tuple[str, ...]  # as results.json names them, in the order asked for
    runs: dict[str, Run]
    log: Journeys
    worth: Worth
    place: Place

    @classmethod
    def of(cls, flags: Ope) -> "Asked":
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
        if dict(self.worth.weights) != reward_weights(self.log):
            found["gain"] = gain_words(self.worth.weights)
        if self.worth.penalty:
            found["penalty"] = self.worth.penalty
        if self.flags.select is not None:
            found["share"] = self.flags.select
        return found


def gain_words(weights: Mapping[str, float]) -> str:
    """
    >>> gain_words({"click": 1.0}), gain_words({"click": 1.0, "conversion": 10.0})
    ('click', 'click:1,conversion:10')
    """
    if list(weights.values()) == [1.0]:
        return next(iter(weights))
    return ",".join(f"{name}:{weight:g}" for name, weight in weights.items())


def _check(flags: Ope) -> None:
    """Mistakes that need no data."""
    if not flags.policies:
        raise UserError("ope: POLICY_OR_RUN missing; name at least one, for example  headrace ope uniform --data LOG")
    twice = next((w for w in flags.policies if flags.policies.count(w) > 1), None)
    if twice is not None:
        raise UserError(f"ope: {twice} is named twice; name each policy once")
    if flags.by not in get_args(By):
        raise unknown("value of --by", flags.by, get_args(By))
    if flags.propensity is not None and flags.propensity not in WAYS:
        raise unknown("propensity", flags.propensity, WAYS)
    recommended(flags.estimators or ESTIMATORS)
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


def _worth(flags: Ope, log: Journeys, run: Run | None) -> Worth:
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
    return {} if run is None else dict(load_channel(run).reward_weights)


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
