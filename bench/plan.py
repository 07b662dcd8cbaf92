"""How long plans take, and how near they come to the linear program's bound.

    python bench/plan.py

Gains differ by user, channel and pair, prices are whole micros, the budget pays 15 % of all users once. `limits`:
caps on three of ten channels, floors on two. The bound is HiGHS's linear program where that is solved, else the
dual's, which is no smaller.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
from made_by import made_by

from headrace.campaign.planner import affordable, plan
from headrace.campaign.problem import Problem
from headrace.campaign.program import solve_relaxed
from headrace.campaign.response import response

TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"
CASES = (  # users, limits, exposures a user, solved by HiGHS too
    (2_000, False, 1, True),
    (2_000, True, 1, True),
    (5_000, False, 1, True),
    (5_000, True, 1, True),
    (20_000, True, 1, False),
    (1_000_000, False, 1, False),
    (1_000_000, True, 1, False),
    (1_000_000, True, 3, False),
)


def problem_of(users: int, limits: bool, per_user: int, seed: int, factor: float = 1.0) -> Problem:
    """A market of ten channels."""
    rng = np.random.default_rng(seed)
    prices = np.ceil(1e6 * rng.gamma(2.0, 0.5, (1, 10)) * rng.gamma(4.0, 0.25, (users, 10)))
    gains = rng.beta(1, 20, (users, 1)) * rng.gamma(3, 0.3, (1, 10)) * rng.lognormal(0, 0.5, (users, 10))
    budget = np.floor(0.15 * prices.mean(axis=1).sum())
    lower, upper = np.zeros(10), np.full(10, np.inf)
    if limits:
        upper[:3] = np.floor(0.1 * budget)
        lower[3], lower[4] = np.floor(0.2 * budget), np.floor(0.1 * budget)
    return Problem(gains, prices, budget * factor, lower, upper, per_user)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--most", type=int, default=1_000_000, help="leave out cases of more users")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = arguments.parse_args()
    rows = []
    for users, limits, per_user, solved in CASES:
        if users > given.most:
            continue
        seeds = given.seeds if users <= 2_000 else given.seeds[:1]
        for seed in seeds:
            problem = problem_of(users, limits, per_user, seed)
            start = time.perf_counter()
            found = plan(problem)
            ours = time.perf_counter() - start
            start = time.perf_counter()
            bound = solve_relaxed(affordable(problem)).value if solved else found.bound
            theirs = time.perf_counter() - start if solved else None
            assert found.spend.sum() <= problem.budget and (found.spend <= problem.upper).all()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            row = {"users": users, "limits": limits, "per_user": per_user, "seed": seed, "seconds": ours}
            row |= {"highs_seconds": theirs, "lacks": 1 - found.gain / bound, "short": float(found.short.sum())}
            rows.append(row | {"peak_mib": memory})
            print(rows[-1], flush=True)
    start = time.perf_counter()
    most = max(r["users"] for r in rows)
    curve = response(lambda f: problem_of(most, False, 1, 0, f), (0.5, 0.75, 1.0, 1.1, 1.5))
    curve_s = time.perf_counter() - start
    lines = [
        "| users | limits of channels | exposures a user | seconds | HiGHS LP, seconds | lacks of the bound, at most |",
        "|---|---|---|---|---|---|",
    ]
    for users, limits, per_user, solved in CASES:
        of = [r for r in rows if (r["users"], r["limits"], r["per_user"]) == (users, limits, per_user)]
        if of:
            slowest = f"{max(r['highs_seconds'] for r in of):.1f}" if solved else "-"
            lacks = f"{max(r['lacks'] for r in of):.1e}" + ("" if solved else " (dual)")
            lines.append(
                f"| {users:,} | {'3 caps, 2 floors' if limits else 'none'} | {per_user} | "
                f"{max(r['seconds'] for r in of):.1f} | {slowest} | {lacks} |"
            )
    lines += [
        "",
        f"Ten channels; 2,000 users: the slowest and the worst of seeds {', '.join(map(str, given.seeds))}, "
        f"else seed {given.seeds[0]}. Peak memory {max(r['peak_mib'] for r in rows):,} MiB, {most * 160 / 2**20:,.0f} "
        f"of them the largest case's gains and prices. A response curve of five budgets with its interval, {most:,} "
        f"users: {curve_s:.0f} s; 10 % more budget brings {curve.more(2, 3)[0]:,.4g} on {curve.gain[2]:,.6g}.",
        "",
        made_by("python bench/plan.py"),
    ]
    (TABLES / "plan.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (TABLES / "plan.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
