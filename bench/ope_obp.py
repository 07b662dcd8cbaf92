"""Our single-step estimators beside those of the Open Bandit Pipeline, on the Open Bandit Dataset's small version.

    python bench/ope_obp.py ../shared/data/open_bandit_small --out docs/tables/ope-obp.md

Makes a throwaway environment with obp 0.5.7 (it asks for an older Python and pins what it does not need here, hence
without its dependencies), hands it the very rewards, propensities, choices and predicted gains that ours see, and asks
that the values agree to 1e-6. The policy valued: uniform, from the logs of Bernoulli Thompson sampling.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from made_by import made_by

from headrace.journeys.prepare import prepare
from headrace.ope.feedback import feedback
from headrace.ope.models import reward_model
from headrace.ope.single import Thresholds, functional, terms

WANTED = ("numpy", "scikit-learn", "scipy", "torch==2.13.0", "tqdm", "pyyaml", "matplotlib", "seaborn", "pandas")
CUT = 20.0  # where clipped and switch-dr cut
TOLERANCE = 1e-6

THEIRS = """
import json, sys
import numpy as np
from obp.ope import (DirectMethod, DoublyRobust, InverseProbabilityWeighting, SelfNormalizedDoublyRobust,
                     SelfNormalizedInverseProbabilityWeighting, SwitchDoublyRobust)
held = np.load(sys.argv[1])
data = dict(reward=held["reward"], action=held["action"], pscore=held["pscore"], action_dist=held["policy"][:, :, None])
q = dict(estimated_rewards_by_reg_model=held["q"][:, :, None])
cut = float(held["cut"])
print(json.dumps({
    "ips": InverseProbabilityWeighting().estimate_policy_value(**data),
    "clipped": InverseProbabilityWeighting(lambda_=cut).estimate_policy_value(**data),
    "snips": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**data),
    "dm": DirectMethod().estimate_policy_value(action_dist=data["action_dist"], **q),
    "dr": DoublyRobust().estimate_policy_value(**data, **q),
    "sndr": SelfNormalizedDoublyRobust().estimate_policy_value(**data, **q),
    "switch-dr": SwitchDoublyRobust(lambda_=cut).estimate_policy_value(**data, **q),
}))
"""


def environment(folder: Path) -> Path:
    """The interpreter of a new environment that holds obp."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    for packages in (WANTED, ("--no-deps", "--ignore-requires-python", "obp==0.5.7")):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stderr=subprocess.DEVNULL)
    return python


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--python", type=Path, help="of an environment that holds obp; default: a new one")
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    lines = ["| campaign | estimator | headrace | obp 0.5.7 | difference |", "|---|---|---|---|---|"]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        python = given.python or environment(Path(folder) / "obp")
        for campaign in ("all", "men", "women"):
            log = prepare(given.data / f"bts_{campaign}_{campaign}.parquet", "open-bandit", Path(folder) / campaign)
            rows, m = np.arange(log.n_steps), len(log.channels)
            reward = np.asarray(log.gain("click"), dtype=np.float64)
            chance = np.asarray(log.column("propensity"), dtype=np.float64)
            of = feedback(log, rows, np.full((len(rows), m), 1 / m), reward, chance)
            q = reward_model(log, rows, reward, of.codes)
            held = Path(folder) / f"{campaign}.npz"
            np.savez(held, reward=reward, action=of.action, pscore=chance, policy=of.policy, q=q, cut=CUT)
            told = subprocess.run([python, "-c", THEIRS, held], check=True, capture_output=True, text=True)
            for name, theirs in json.loads(told.stdout).items():
                cut = Thresholds(CUT, CUT)
                ours = functional(terms(name, of, q, cut), of).value(np.ones((1, of.groups)))[0]
                worst = max(worst, abs(ours - theirs))
                lines.append(f"| {campaign} | {name} | {ours:.9f} | {theirs:.9f} | {abs(ours - theirs):.1e} |")
    print("\n".join(lines))
    if given.out:
        made = made_by(f"python bench/ope_obp.py {given.data}")
        given.out.write_text("\n".join(lines) + f"\n\n{made}\n", encoding="utf-8")
    if worst > TOLERANCE:
        sys.exit(f"the estimates differ by {worst:.1e}, more than {TOLERANCE:g}")


if __name__ == "__main__":
    main()
