"""How loose the bounds of the advertising world are, and whether any of many policies beats them.

    python bench/world_bounds.py [--world ads] [--users 300] [--policies 1000] [--out docs/world_bounds.md]

On the same users: no advert, myopic and planning references, the best of CEM over plans, 1,000 policies at random, the
linear program, and the clairvoyant; for each objective, without a budget and with one of `--budget` a user. A policy
beats a bound where the paired interval of its difference lies above 0. Writes a Markdown table and prints it.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from headrace.simulate.clairvoyant import clairvoyant
from headrace.simulate.policies import Acting
from headrace.simulate.reference import Planned, Within, cem, plan_of, plan_parameters, random_policy
from headrace.simulate.relaxation import bound
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import mean_of, totals

GROSS = {"profit": "profit", "revenue": "gross_revenue", "clicks": "clicks"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--world", default="ads")
    arguments.add_argument("--users", type=int, default=300)
    arguments.add_argument("--policies", type=int, default=1000)
    arguments.add_argument("--budget", type=float, default=0.5)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    scenario, users, seed = Scenario.load(given.world), given.users, given.seed
    rows = [
        "| objective | budget a user | no advert | myopic greedy | best planned (CEM) | best of all | LP bound "
        "| bound / best | increment ratio | clairvoyant | policies above bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    tried = [random_policy(rng, scenario) for _ in range(given.policies)]
    free = {index: totals(scenario, policy, users, seed=seed) for index, policy in enumerate(tried)}
    for objective, name in GROSS.items():
        for a_user in (None, given.budget):
            start = time.perf_counter()
            total = None if a_user is None else a_user * users
            upper = bound(scenario, users, seed=seed, budget=total, objective=objective)
            seconds = time.perf_counter() - start
            knowing = clairvoyant(scenario, users, seed=seed, budget=total, objective=objective)

            def within(policy: Acting, total: float | None = total) -> Acting:
                return policy if total is None else Within(policy, total)

            def worth(policy: Acting, name: str = name) -> np.ndarray:
                return totals(scenario, within(policy), users, seed=seed)[name]

            def plan(x: np.ndarray, objective: str = objective) -> Planned:
                price = float(np.exp(x[-1])) - 1 if objective == "profit" else float(np.exp(x[-1])) - 2
                return plan_of(x[:-1], scenario, price=max(price, -1.0))

            m = len(scenario.channels)
            x = np.append(plan_parameters(Planned(), scenario), 0.0 if total is None else np.log1p(upper.price))
            spread = np.concatenate([np.ones(m), [0.5, 0.5, 0.5, 0.02, 0.4]])
            best, met = cem(lambda x: float(worth(plan(x)).mean()), x, spread, iterations=6, population=20, elite=5)
            myopic = "greedy-click" if objective == "clicks" else "greedy-profit"
            values = [worth(policy) for policy in (plan(best), plan(x), myopic, "uniform")]
            values += [worth(p) if total is not None else free[i][name] for i, p in enumerate(tried)
                       if total is None or i < given.policies // 5]  # fmt: skip
            above = sum((mean_of(v - upper.per_user).low or 0.0) > 0 for v in values)
            none, most = float(worth("none").mean()), max(max(float(v.mean()) for v in values), max(met))
            top, all_knowing = upper.total / users, knowing.total / users
            ratio = (top - none) / (most - none)
            row = [
                objective, "-" if a_user is None else f"{a_user:g}", f"{none:.2f}", f"{worth(myopic).mean():.2f}",
                f"{max(met):.2f}", f"{most:.2f}", f"{top:.2f}", f"{top / most:.2f}", f"{ratio:.2f}",
                f"{all_knowing:.2f}", f"{above} of {len(values) + len(met)}",
            ]  # fmt: skip
            rows.append("| " + " | ".join(row) + " |")
            print(rows[-1], f"LP {seconds:.1f} s", flush=True)
    if given.out:
        given.out.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
