"""Which estimator chooses the best policy? Estimates of many policies against their true worth in the world.

    python bench/ope_ranking.py --users 4000 --seeds 3 --out docs/tables/ope-ranking.json

On logs of the ads world's variants, made by the habits of a real log's policy (`logged`) and by a uniform one, every
estimator values 16 policies: each channel alone, uniform, and random preferences by what is seen of a user and the
hour. Their truth is a rollout of each: clicks, or clicks less cost, an exposure. Reported for each estimator: the mean
absolute error relative to the truth, Spearman's rank correlation over the admitted policies, and regret@1: how much of
the best policy's worth is lost by taking the one with the largest admitted estimate.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ope_coverage import Preference
from scipy.stats import spearmanr

from headrace.evaluate.significance import over_seeds
from headrace.journeys.store import Journeys
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
        for e in ESTIMATORS:
            estimates = [found[name].estimates[e].value for name in tried]
            admitted = np.array([v is not None for v in estimates])
            row = {"variant": variant, "logging": logging, "seed": seed, "reward": reward, "estimator": e}
            row |= {"admitted": int(admitted.sum()), "policies": len(tried), "steps": log.n_steps}
            if admitted.sum() >= 3:
                guess, real = np.array([v for v in estimates if v is not None]), true[admitted]
                row["error"] = float(np.mean(np.abs(guess - real) / np.abs(real)))
                row["rank_correlation"] = float(spearmanr(guess, real).statistic)
                row["regret"] = float((true.max() - real[guess.argmax()]) / np.ptp(true))
            rows.append(row)
    shutil.rmtree(folder)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a reward, logging policy and estimator, means over logs with 95 % intervals."""
    lines = [
        "| reward | logged by | estimator | admitted | relative error | rank correlation | regret@1 |",
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
    arguments.add_argument("--users", type=int, default=4_000)
    arguments.add_argument("--days", type=int, default=4)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--variants", type=int, default=5)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    chosen = list(variants(Scenario.load("ads")).items())[: given.variants]
    rows = []
    for variant, scenario in chosen:
        for logging in ("uniform", "logged"):
            for seed in range(given.seeds):
                rows += one(variant, scenario, logging, given.users, given.days, seed)
                print(variant, logging, seed, flush=True)
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        given.out.with_suffix(".md").write_text(table(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
