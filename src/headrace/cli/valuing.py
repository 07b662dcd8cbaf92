"""The answer of `headrace ope`: every policy valued on the same rows, and what is left in the folder.

n rows, M channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.cli.valued_policies import Tell, candidates
from headrace.cli.valued_rows import subgroups
from headrace.cli.valuing_question import Asked
from headrace.evaluate.results import Record, Source, save
from headrace.journeys.seams import Floats
from headrace.learn.run import Run
from headrace.ope.account import account, journey_account
from headrace.ope.feedback import feedback
from headrace.ope.journey_value import DEFAULT as WITHOUT_NETWORKS
from headrace.ope.journey_value import ESTIMATORS as JOURNEY_ESTIMATORS
from headrace.ope.journey_value import JourneyValue, journey_value, transitions
from headrace.ope.propensities import Propensities
from headrace.ope.records import journey_records, records
from headrace.ope.single import ESTIMATORS
from headrace.ope.valuation import Candidate, value
from headrace.report.page import write_page


@dataclass(frozen=True, slots=True)
class Answer:
    """What results.json and ope.json will hold."""

    records: list[Record]
    account: dict[str, Any]


def answer(asked: Asked, tell: Tell) -> Answer:
    """Fit what has to be fitted, and value every policy on the same rows."""
    flags, log, rows = asked.flags, asked.log, asked.place.rows
    reward = asked.worth.of(log, rows)
    known = ~np.isnan(reward)
    parts = {} if flags.subgroup is None else subgroups(log, rows, flags.subgroup)
    made = candidates(asked, tell)
    estimators = flags.estimators or ESTIMATORS
    found = value(
        made.of, log, rows, reward, flags.propensity, estimators, parts, seed=flags.seed, progress=lambda t: tell(t)
    )
    where = asked.place
    source = Source(log.schema.name, where.protocol, where.part, flags.seed, asked.settings, where.leaky)
    own = {name: {"by": flags.by} for name in asked.runs if flags.by != "own"}
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
        "left_out": found.left_out,
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
    asked: Asked, policies: Mapping[str, Candidate], reward: Floats, held: Propensities, tell: Tell
) -> dict[str, JourneyValue]:
    """Every policy's value over journeys, on the same rows and the same states."""
    chance = np.ones(len(reward))
    chance[~np.isnan(reward)] = held.values
    estimators = JOURNEY_ESTIMATORS if asked.flags.networks else WITHOUT_NETWORKS
    found: dict[str, JourneyValue] = {}
    states, own = None, None
    for name, candidate in policies.items():
        tell(f"journeys: {name}")
        of = feedback(asked.log, asked.place.rows, candidate.chances, reward, chance, seed=asked.flags.seed)
        states = transitions(asked.log, of) if states is None else states
        found[name] = journey_value(
            asked.log, of, estimators, seed=asked.flags.seed, states=states, own=own, doubt=held.doubt
        )
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
