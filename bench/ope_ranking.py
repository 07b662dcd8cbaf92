"""Which estimator chooses the best policy? Estimates of many policies against their true worth in the world.

    python bench/ope_ranking.py --seeds 2 --out docs/tables/ope-ranking.md

On logs of the ads world's variants, made by a policy that knows a little (`logging`) and by a uniform one, every
estimator values 16 policies: each channel alone, uniform, and random preferences by what is seen of a user and the
hour. Their truth is a rollout of each: clicks, or clicks less cost, an exposure. Reported for each estimator: the mean
absolute error in units of the spread of the policies' true values, Spearman's rank correlation over the admitted
policies, and regret@1: how much of that range is lost by taking the one with the largest admitted estimate.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from made_by import made_by
from ope_coverage import Preference
from scipy.stats import spearmanr

from headrace.evaluate.significance import over_seeds
from headrace.journeys.store import Journeys
from headrace.ope.feedback import feedback
from headrace.ope.journey_value import DEFAULT, journey_value, transitions
from headrace.ope.single import ESTIMATORS
from headrace.ope.valuation import Candidate, reward_of, value
from headrace.simulate.calibrate import variants
from headrace.simulate.draws import Floats
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import totals

TRUTH_USERS = 20_000
RANDOM = 10  # preferences beside the constants and uniform
PENALTY = 0.5  # of the reward "penalised": clicks less this times cost


def policies(m: int, seed: int) -> dict[str, Preference]:
    """Each channel alone, uniform, and random preferences, a few of them sharp."""
    rng = np.random.default_rng(seed)
    none, flat = np.zeros(m), np.zeros((3, m))
    found = {"uniform": Preference(flat, none, 1.0, none)}
    for channel in range(m):
        found[f"constant {channel}"] = Preference(flat, none, 0.0, 1 - np.eye(m)[channel])
    for k in range(RANDOM):
        sharpness = float(rng.choice([0.5, 1.0, 2.0]))
        slopes, base = sharpness * rng.normal(size=(3, m)), sharpness * rng.normal(size=m)
        found[f"preference {k}"] = Preference(slopes, base, 0.05, none)
    return found


def truth(scenario: Scenario, policy: Preference, days: int, seed: int) -> dict[str, float]:
    """Worth an exposure by rollout."""
    happened = totals(scenario, policy.seen, TRUTH_USERS, days, 50_000 + seed)
    shown = happened["exposures"].sum()
    clicks, cost = happened["clicks"].sum() / shown, happened["cost"].sum() / shown
    return {"click": float(clicks), "penalised": float(clicks - PENALTY * cost)}


def chances(policy: Preference, log: Journeys) -> Floats:
    spend = np.asarray(log.feature("past_spend"))[log.user_of_step]
    return policy(spend, np.asarray(log.feature("hour")), np.asarray(log.feature("days_since_last_visit")))


def one(variant: str, scenario: Scenario, logging: str, users: int, days: int, seed: int) -> list[dict[str, Any]]:
    """The figures of every estimator on one log, for both rewards."""
    tried = policies(len(scenario.channels), seed)
    worth = {name: truth(scenario, policy, days, seed) for name, policy in tried.items()}
    folder = Path(tempfile.mkdtemp())
    log = simulate(scenario, users, days, logging, seed, folder / "log")
    candidates = {name: Candidate(chances(policy, log)) for name, policy in tried.items()}
    rows = []
    for reward, s in (("click", 0.0), ("penalised", PENALTY)):
        gain = reward_of(log, np.arange(log.n_steps), {"click": 1.0}, s)
        found = value(candidates, log, None, gain, resamples=100, seed=seed, paired=False)
        true = np.array([worth[name][reward] for name in tried])
        place = {"variant": variant, "logging": logging, "seed": seed, "reward": reward, "steps": log.n_steps}
        for e in ESTIMATORS:
            rows.append(place | {"estimator": e} | figures([found[name].estimates[e].value for name in tried], true))
        of_journeys = over_journeys(log, candidates, gain)
        rows += [place | {"estimator": e} | figures(values, true) for e, values in of_journeys.items()]
    shutil.rmtree(folder)
    return rows


def over_journeys(log: Journeys, candidates: dict[str, Candidate], gain: Floats) -> dict[str, list[float | None]]:
    """Each policy's value over journeys, by estimator."""
    rows, chance = np.arange(log.n_steps), np.asarray(log.column("propensity"), dtype=np.float64)
    found: dict[str, list[float | None]] = {e: [] for e in DEFAULT}
    states, own = None, None
    for candidate in candidates.values():
        of = feedback(log, rows, candidate.chances, gain, chance)
        states = transitions(log, of) if states is None else states
        value_of = journey_value(log, of, resamples=100, states=states, own=own)
        own = value_of.own
        for e, estimate in value_of.estimates.items():
            found[e].append(estimate.value)
    return found


def figures(estimates: list[float | None], true: Floats) -> dict[str, Any]:
    """What the admitted estimates are worth; the error in units of the spread of the policies' true values."""
    admitted = np.array([v is not None for v in estimates])
    row: dict[str, Any] = {"admitted": int(admitted.sum()), "policies": len(true)}
    if admitted.sum() >= 3:
        guess, real = np.array([v for v in estimates if v is not None]), true[admitted]
        row["error"] = float(np.mean(np.abs(guess - real)) / true.std())
        row["rank_correlation"] = float(spearmanr(guess, real).statistic)
        row["regret"] = float((true.max() - real[guess.argmax()]) / np.ptp(true))
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a reward, logging policy and estimator, means over logs with 95 % intervals."""
    lines = [
        "| reward | logged by | estimator | admitted | error, in spreads | rank correlation | regret@1 |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((r["reward"], r["logging"], r["estimator"]) for r in rows)
    for reward, logging, e in keys:
        mine = [r for r in rows if (r["reward"], r["logging"], r["estimator"]) == (reward, logging, e)]
        cells = []
        for figure in ("error", "rank_correlation", "regret"):
            f = over_seeds([r[figure] for r in mine if figure in r])
            cells.append(f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" if f.value is not None else "refused")
        admitted = f"{sum(r['admitted'] for r in mine)} of {sum(r['policies'] for r in mine)}"
        lines.append(f"| {reward} | {logging} | {e} | {admitted} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--users", type=int, default=2_000)
    arguments.add_argument("--days", type=int, default=4)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--variants", type=int, default=5)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    chosen = list(variants(Scenario.load("ads")).items())[: given.variants]
    rows = []
    for variant, scenario in chosen:
        for logging in ("uniform", "logging"):
            for seed in range(given.seeds):
                rows += one(variant, scenario, logging, given.users, given.days, seed)
                print(variant, logging, seed, flush=True)
    print(table(rows))
    if given.out:
        command = f"python bench/ope_ranking.py --users {given.users} --days {given.days} --seeds {given.seeds}"
        told = made_by(f"{command} --variants {given.variants}")
        given.out.write_text(f"{table(rows)}\n\n{told}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
