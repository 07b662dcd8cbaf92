"""Everything that `make bench` measures, one after the other; each part is a script of its own.

python bench/run.py
"""

import subprocess
import sys
from pathlib import Path

HEADLINE_FLOORS = ("prior", "past-frequencies", "past-rate", "repeat-last", "markov", "logistic", "lightgbm")
CONTROLLED = ("--methods", "ple", "ple-constant", "rmtl-ple")
SEVEN = "tasks=ctr=is_click,ctcvr=is_click&long_view,like=is_like,follow=is_follow,comment=is_comment"
SEVEN += ",forward=is_forward,profile=is_profile_enter"
PARTS = (
    ["prepare.py"],
    ["mtorl.py", "--protocols", "users"],
    [
        "mtorl.py",
        "--protocols",
        "honest",
        "--seeds",
        "0",
        "1",
        "2",
        "3",
        "4",
        "--folds",
        "5",
        "--floors",
        *HEADLINE_FLOORS,
    ],
    ["ablations.py"],
    ["tuned.py"],
    ["rewards.py", "../shared/data", "--out", "docs/tables"],
    ["ctr.py", "--seeds", "0", "1", "2", "3", "4"],
    ["ctr_world.py", "--users", "1500", "--visitors", "6000", "--seeds", "0", "1", "2"],
    ["paper.py"],
    ["paper.py", "--samples", "kuairand", "--inputs", "numbers", "--set", "width=128", "--name", "paper-printed"],
    ["sweeps.py"],
    ["incremental.py"],
    ["channel.py"],
    ["channel_d3rlpy.py", "--out", "docs/tables/channel-d3rlpy.md"],
    ["ope_coverage.py", "--out", "docs/tables/ope-coverage.md"],
    ["ope_ranking.py", "--out", "docs/tables/ope-ranking.md"],
    ["ope_obp.py", "../shared/data/open_bandit_small", "--out", "docs/tables/ope-obp.md"],
    ["ope_logs.py", "../shared/data", "--out", "docs/tables"],
    ["ope_speed.py", "--out", "docs/tables/ope-speed.md"],
    ["rmtl.py", "kuairand", "--pairs", "ple", "esmm"],
    ["rmtl_tuned.py"],
    ["rmtl.py", "kuairand", "--share", "0.25", "--seeds", "1", "--preset", "paper", "--name", "paper", *CONTROLLED],
    ["rmtl.py", "kuairand", *CONTROLLED, "--protocol", "honest", "--name", "honest"],
    ["rmtl.py", "kuairand", *CONTROLLED, "--set", "start=fresh", "retrain_epochs=8", "--name", "fresh"],
    ["rmtl.py", "kuairand", *CONTROLLED, "--set", SEVEN, "--name", "tasks"],
    ["rmtl.py", "feed"],
    ["rmtl.py", "sweeps", "--share", "0.25"],
    ["rmtl.py", "transfer", "--share", "0.25"],
    ["rmtl.py", "retailrocket"],
    ["rmtl.py", "criteo"],
    ["rmtl_omega.py"],
    ["rmtl_rechub.py", "--out", "docs/tables/rmtl-rechub.md"],
    ["campaign_speed.py", "--out", "docs/tables/campaign-speed.md"],
    ["campaign.py"],
    ["campaign_refit.py"],
    ["plan.py"],
    ["fuse.py", "table", "--seeds", "5"],
    ["fuse_d3rlpy.py", "--out", "docs/tables/fuse-d3rlpy.md"],
    ["fuse.py", "figures"],
    ["fuse.py", "sweeps"],
    ["fuse.py", "cycle", "--world", "kuairand"],
    ["world_bounds.py"],
    ["world_pictures.py"],
    ["tables.py"],
)


def main() -> None:
    for script, *arguments in PARTS:
        print(f"== {script}", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).parent / script), *arguments], check=True)


if __name__ == "__main__":
    main()
