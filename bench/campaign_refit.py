"""What a campaign gains by training its run on while it lasts: docs/tables/campaign-refit.md.

    python bench/campaign_refit.py [--log-users 300 3000] [--seeds 10 11 12] [--days 3] [--users 600] [--budget 120]

The run learns from a log of few or many users; the campaign begins the day after that log ends, among other users, once
with the run as it is and once refitted every --days days by going on from it (docs/incremental.md). Both meet the same
users, luck and money. Increment over no advert, clicks; 95 % intervals over users of all worlds.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from made_by import made_by

from headrace.campaign.config import PRESETS, CampaignConfig
from headrace.campaign.contestants import CONTESTANTS, OURS
from headrace.campaign.money import to_micros
from headrace.campaign.procedure import run_campaign
from headrace.campaign.refit import GoingOn
from headrace.campaign.world_market import WorldMarket
from headrace.cli.contest import after_the_log, learnt, material_of
from headrace.learn.run import Run
from headrace.report.numbers import show
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import mean_of

HEAD = "| log's users | as it is | refitted | refits | the gain | seconds a campaign, as it is | refitted |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log-users", nargs="+", type=int, default=[300, 3000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("docs/tables"))
    given = parser.parse_args()
    lines = [HEAD, "|---:" * 7 + "|"]
    for users in given.log_users:
        with tempfile.TemporaryDirectory() as scratch:
            lines.append(row(users, given, Path(scratch)))
        print(lines[-1], flush=True)
    seeds, logs = (" ".join(map(str, of)) for of in (given.seeds, given.log_users))
    command = f"python bench/campaign_refit.py --log-users {logs} --seeds {seeds} --days {given.days}"
    told = made_by(f"{command} --users {given.users} --budget {given.budget:g}")
    lines += ["", f"Clicks of {given.users} users, mean of {len(given.seeds)} worlds. {told}"]
    (given.out / "campaign-refit.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(users: int, given: argparse.Namespace, folder: Path) -> str:
    """One log, its run, and the campaigns with and without refits."""
    ads = Scenario.load("ads")
    flags = SimpleNamespace(log_users=users, reward=None, set=("epochs=8",))
    path = learnt(flags, ads, folder, lambda *_: None)  # type: ignore[arg-type]
    material, later = material_of(path, ads), after_the_log(path, ads)
    found: dict[bool, list[np.ndarray]] = {False: [], True: []}
    seconds = {False: 0.0, True: 0.0}
    refits = 0
    for seed in given.seeds:
        for refitted in (False, True):
            market = WorldMarket(later, given.users, seed, None, *material.memory)
            ours = CONTESTANTS[OURS](material, 0.0)
            every = given.days * len(market.traffic) if refitted else None
            config = CampaignConfig(to_micros(given.budget, "budget"), **PRESETS["default"])
            config = dataclasses.replace(config, refit_every=every)
            refit = GoingOn(Run.open(path)) if refitted else None
            begun = time.process_time()
            done = run_campaign(market, ours.predictor, ours.allocator, config, folder / f"{seed}-{refitted}", refit)
            seconds[refitted] += time.process_time() - begun
            found[refitted].append(done.value("gross") - done.value("without"))
            refits += refit.refits if refit is not None else 0
    plain, renewed = (np.concatenate(found[of]) for of in (False, True))
    gain = mean_of(renewed - plain)
    scale = given.users
    low, high = (show(end * scale, 0, True) for end in (gain.low, gain.high))
    cells = [f"{users:,}", show(plain.mean() * scale, 0), show(renewed.mean() * scale, 0)]
    cells += [show(refits / len(given.seeds), 1), f"{show(gain.value * scale, 0, True)} [{low}, {high}]"]
    cells += [show(seconds[of] / len(given.seeds), 0) for of in (False, True)]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
