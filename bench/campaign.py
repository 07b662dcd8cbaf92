"""Campaigns of every method with the same budget, users and luck, in the world and in variants of it.

    python bench/campaign.py [--out docs/tables] [--work FOLDER] [--parts ads revenue variants budgets]

Each part is one `headrace compare campaign`: a log is simulated, mtorl trained on it, and every method plays in the
same worlds of other users; `variants` is one for every variant of the world that the same log could have come from, a
few methods each, and `budgets` all methods at five budgets. With --work what is there is not played again. Writes
campaign-PART.md and .json, and pictures/campaign-budget.svg.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import tomli_w
from made_by import made_by

from headrace.cli import run
from headrace.evaluate.results import save
from headrace.report.compare_campaign import COLUMNS, at, rows, sentence, verdict
from headrace.report.compare_campaign import by_budget as curves
from headrace.report.figures import save as save_picture
from headrace.report.parts import read
from headrace.report.records import load
from headrace.simulate.calibrate import variants
from headrace.simulate.scenario import Scenario

FEW = "random,explicit,paper,trees-lp,trees-lp-corrected,uncorrected,ours,informed,full-information"
PARTS: dict[str, dict[str, str]] = {
    "ads": {"--methods": "all", "--seeds": "5"},
    "revenue": {"--methods": FEW, "--seeds": "5", "--reward": "revenue"},
    "variants": {"--methods": FEW, "--seeds": "5"},
    "budgets": {"--methods": "all", "--seeds": "3", "--budget": "30 60 120 240 480"},
}
ALIKE = {"--budget": "120", "--users": "600", "--seed": "10", "--log-users": "3000", "--set": "epochs=8"}


def world_file(scenario: Scenario, name: str, work: Path) -> str:
    """The file of a variant."""
    slug = name.replace(" ", "-")
    path = work / f"{slug}.toml"
    path.write_text(tomli_w.dumps(dataclasses.replace(scenario, name=f"ads-{slug}").to_dict()), encoding="utf-8")
    return str(path)


def table(folder: Path) -> str:
    """The comparison in Markdown."""
    records, told = load(folder / "results.json"), read(folder / "contest.json", dict)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(f"**{c}**" if row[0] == "ours" else c for c in row) + " |" for row in rows(records)]
    return "\n".join([*lines, "", sentence(told), "", *verdict(records)])


def compared(world: str, flags: dict[str, str], folder: Path) -> Path:
    """The folder of a comparison, which is played unless it is there."""
    if not (folder / "results.json").is_file():
        words = [word for name, value in flags.items() for word in (name, *value.split())]
        code = run(["compare", "campaign", "--data", world, *words, "--out", str(folder)])
        if code:
            raise SystemExit(code)
    return folder


def by_budget(folder: Path, pictures: Path) -> str:
    """A row a method, a column a budget: its increment; and the picture of it."""
    records, told = load(folder / "results.json"), read(folder / "contest.json", dict)
    amounts = list(told["budgets"].values())
    columns = [{row[0]: row[COLUMNS.index("increment")] for row in rows(at(records, a))} for a in amounts]
    heads = [f"{amount:g} {told['currency']}" for amount in amounts]
    lines = [f"| method | {' | '.join(heads)} |"]
    lines += ["|---|" + "---:|" * len(amounts)]
    lines += [f"| {name} | {' | '.join(c[name] for c in columns)} |" for name in columns[-1]]
    save_picture(curves(records, told["gain"], told["currency"]), pictures / "campaign-budget.svg")
    return "\n".join([*lines, "", f"Increment. {sentence(told)}"])


def of_variants(folders: dict[str, Path]) -> str:
    """A row a variant: each method's increment as a share of full information's, and ours less the paper's."""
    lines: list[str] = []
    for name, folder in folders.items():
        found = {row[0]: row for row in rows(load(folder / "results.json"))}
        methods = [m for m in FEW.split(",") if m != "full-information"]
        if not lines:
            lines += [
                "| variant | " + " | ".join(methods) + " | ours less paper |",
                "|---|" + "---:|" * (len(methods) + 1),
            ]
        share, less = COLUMNS.index("of full information"), COLUMNS.index("ours less it")
        cells = [found[m][share] for m in methods] + [found["paper"][less]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    told = sentence(read(next(iter(folders.values())) / "contest.json", dict))
    return "\n".join([*lines, "", f"Increment as a share of full information's. {told}"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("docs/tables"))
    arguments.add_argument("--work", type=Path)
    arguments.add_argument("--seeds", type=int, help="worlds of each part")
    arguments.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for part in given.parts:
            begun, seeds = time.process_time(), {} if given.seeds is None else {"--seeds": str(given.seeds)}
            flags = ALIKE | PARTS[part] | seeds
            if part == "variants":
                worlds = {n: w for n, w in variants(Scenario.load("ads")).items() if n != "as given"}
                folders = {
                    n: compared(world_file(w, n, work), flags, work / n.replace(" ", "-")) for n, w in worlds.items()
                }
                text = of_variants(folders)
                save(
                    [r for folder in folders.values() for r in load(folder / "results.json") if r["seed"] is None],
                    given.out / f"campaign-{part}.json",
                )
            else:
                folder = compared("ads", flags, work / part)
                text = by_budget(folder, given.out.parent / "pictures") if part == "budgets" else table(folder)
                found = load(folder / "results.json")
                kept = [r for r in found if part != "budgets" or r["seed"] is None]  # of many, the means alone
                save(kept, given.out / f"campaign-{part}.json")
            command = f"python bench/campaign.py --parts {part}" + "".join(f" {k} {v}" for k, v in seeds.items())
            text += f"\n\n{made_by(command)}"
            text += f" {time.process_time() - begun:.0f} s of CPU.\n" if given.work is None else "\n"
            (given.out / f"campaign-{part}.md").write_text(text, encoding="utf-8")
            print(text, flush=True)


if __name__ == "__main__":
    main()
