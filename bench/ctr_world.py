"""An A/B test of the click model with and without MTORL's encoder, in the world (section 4.5): docs/tables/ctr-world.*.

    python bench/ctr_world.py [--users 1500] [--visitors 6000] [--seeds 0 1 2]

Per seed: a log of the ads scenario; MTORL, DIN, and DIN co-trained with MTORL's encoder on its split; then new users,
each by the hash of its number in arm A (DIN chooses the channel: largest predicted click less s times predicted cost)
or arm B (the same by DIN with the encoder). CTR, revenue and cost per 1,000 exposures, intervals by bootstrap over
users.

Users don't touch each other here, so a user's days under an arm are the same whoever else is in it: both policies are
rolled out on all users, the arms read off, and beside them the difference on all users, each paired with itself, which
no live test could show.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mtorl import TABLES
from numpy.typing import NDArray

from headrace.channel.din import DIN, DINConfig
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.evaluate.bootstrap import Interval, draws, interval, ratio
from headrace.evaluate.metrics import Predicted, auc, log_loss
from headrace.evaluate.results import Record, Source, aggregate, record, save, score
from headrace.evaluate.targets import Target, steps_of
from headrace.journeys.seams import Bools, Floats
from headrace.learn.provenance import environment
from headrace.simulate.acting import MemoryPolicy
from headrace.simulate.log import simulate
from headrace.simulate.policies import Acting
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import totals

FIGURES = {"ctr": ("clicks", 1.0), "revenue_per_mille": ("revenue", 1000.0), "cost_per_mille": ("cost", 1000.0)}
FORMATS = {"ctr": ".4f", "revenue_per_mille": ".1f", "cost_per_mille": ".1f"}
A, B = "din", "din-co-trained"
PRICE = 0.5  # of a EUR of cost, in clicks
REFERENCES = ("uniform", "logging", "greedy-click")
Totals = dict[str, Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="ads")
    parser.add_argument("--users", type=int, default=1500, help="of the log that the models learn from")
    parser.add_argument("--visitors", type=int, default=6000, help="of the A/B test, both arms together")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    started, made = time.perf_counter(), environment()
    scenario = Scenario.load(given.world)
    records: list[Record] = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            policies, offline = models(scenario, given.users, seed, Path(scratch))
            records += offline
            met = {name: met_by(scenario, policy, given.visitors, seed) for name, policy in policies.items()}
        records += compared(f"world-{scenario.name}", met, seed)
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if len(given.seeds) > 1:
        records += aggregate(records)
    TABLES.mkdir(parents=True, exist_ok=True)
    save(records, TABLES / "ctr-world.json")
    last = None if len(given.seeds) > 1 else given.seeds[0]
    words = f"--users {given.users} --visitors {given.visitors} --seeds {' '.join(map(str, given.seeds))}"
    text = table([r for r in records if r["seed"] == last]) + (
        f"\n\nn: {'exposures, users' if last is not None else 'of the first seed'}. "
        f"`python bench/ctr_world.py {words}`, commit {(made['commit'] or 'unknown')[:12]}, "
        f"{made['machine']['cores']} cores ({made['machine']['processor']}); {time.perf_counter() - started:.0f} s.\n"
    )
    (TABLES / "ctr-world.md").write_text(text, encoding="utf-8")
    print(json.dumps({"table": "ctr-world"}))


def models(scenario: Scenario, users: int, seed: int, scratch: Path) -> tuple[dict[str, Acting], list[Record]]:
    """The two arms' policies with the references, and the click models' figures on the log's test part."""
    journeys = simulate(scenario, users, None, "logging", seed, scratch / "journeys")
    split = journeys.split("honest", seed)
    MTORL(MTORLConfig(seed=seed)).fit(journeys, split, scratch / "mtorl", progress=False)
    configs = {A: DINConfig(seed=seed), B: DINConfig(seed=seed, encoder=str(scratch / "mtorl"), co_train=True)}
    found: dict[str, Acting] = {}
    target, rows = Target("click", "channel"), split.rows("test")
    predicted: dict[str, Predicted | str] = {}
    for name, config in configs.items():
        method = DIN(config).fit(journeys, split, scratch / name, progress=False)
        assert method.transforms is not None
        found[name] = MemoryPolicy(
            method.value_policy(PRICE), config.length or 50, method.transforms.statistics, name=name
        )
        said = method.predict(journeys, split.parts["test"])
        order = np.argsort(said.rows)
        channel = np.asarray(journeys.channel)[rows].astype(np.int64)
        predicted[name] = Predicted(said.reward_by_channel["click"][order][np.arange(len(rows)), channel], rows=rows)
        print(f"seed {seed} {name}: fitted, {method.stage}", file=sys.stderr, flush=True)
    source = Source(journeys.schema.name, "honest", "test", seed)
    metrics = {"auc": auc, "log_loss": log_loss}
    scored = score(source, target.prefix, steps_of(journeys, rows, target), predicted, [B], metrics, seed=seed)
    return found | {name: name for name in REFERENCES}, scored.records


def met_by(scenario: Scenario, policy: Acting, visitors: int, seed: int) -> Totals:
    """What a policy brings each of the visitors, none of them a user of the log: another seed, another company."""
    return totals(scenario, policy, visitors, seed=seed + 1_000_003)


def in_arm_b(visitors: int, seed: int) -> Bools:
    """(N,) who is in arm B: a hash of the user's number."""
    digests = (hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=1).digest()[0] for user in range(visitors))
    return np.fromiter((byte % 2 == 1 for byte in digests), dtype=np.bool_, count=visitors)


def compared(dataset: str, met: dict[str, Totals], seed: int) -> list[Record]:
    """Records of the arms (part "disjoint") and of all policies on all users (part "paired")."""
    b = in_arm_b(len(met[A]["clicks"]), seed)
    arms = {A: drawn(met[A], ~b, 2 * seed), B: drawn(met[B], b, 2 * seed + 1)}
    everyone = np.ones_like(b)
    every = {name: drawn(totals_, everyone, seed) for name, totals_ in met.items()}
    records: list[Record] = []
    for part, found, users in (("disjoint", arms, {A: ~b, B: b}), ("paired", every, dict.fromkeys(met, everyone))):
        source = Source(dataset, "rollout", part, seed)
        for name, figures in found.items():
            n = int(met[name]["exposures"][users[name]].sum())
            for metric, values in figures.items():
                records.append(record(source, name, metric, interval(values, int(users[name].sum())), n))
        for metric in FIGURES:
            difference = found[B][metric] - found[A][metric]
            n = int(users[A].sum() + users[B].sum()) if part == "disjoint" else len(b)
            records.append(record(source, B, metric, interval(difference, n), n, A))
    return records


def drawn(totals_: Totals, chosen: NDArray[np.bool_], seed: int) -> dict[str, Floats]:
    """Each figure of the chosen users and its resamples, (1 + R,): a ratio of sums over users."""
    users = int(chosen.sum())
    metrics = {
        name: ratio(scale * totals_[of][chosen], totals_["exposures"][chosen], np.arange(users), users)
        for name, (of, scale) in FIGURES.items()
    }
    return draws(metrics, users, seed=seed)


def table(records: Sequence[Record]) -> str:
    """Markdown: the arms, their difference, the same paired, and the references."""
    lines = ["| | CTR | revenue per mille, EUR | cost per mille, EUR | n |", "|---|---|---|---|---|"]
    rows: list[tuple[str, str, str, str | None]] = [
        ("arm A: DIN", "disjoint", A, None),
        ("arm B: DIN with the encoder", "disjoint", B, None),
        ("**B - A, disjoint users**", "disjoint", B, A),
        ("B - A, each user paired with itself", "paired", B, A),
        *((f"{name}, all users", "paired", name, None) for name in (A, B, *REFERENCES)),
    ]
    for title, part, method, against in rows:
        key = {"part": part, "method": method, "against": against}
        found = {r["metric"]: r for r in records if all(r[k] == v for k, v in key.items())}
        cells = [figure(found[name], name) for name in FIGURES]
        lines.append(f"| {title} | {' | '.join(cells)} | {found['ctr']['n']:,} |")
    offline = {r["metric"].rpartition("/")[2]: r for r in records if r["part"] == "test" and r["against"] == A}
    auc_, loss = (told(offline[name], "+.4f") for name in ("auc", "log_loss"))
    return (
        "\n".join(lines) + f"\n\nOn the log's test part, click given the channel, B - A: AUC {auc_}, log loss {loss}."
    )


def figure(r: Record, name: str) -> str:
    return told(r, ("+" if r["against"] else "") + FORMATS[name])


def told(r: Record, form: str) -> str:
    found = Interval(r["value"], r["low"], r["high"], r["refused"])
    if found.value is None or found.low is None or found.high is None:
        return f"refused: {found.refused}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


if __name__ == "__main__":
    main()
