"""What real logs say of policies: the Open Bandit Dataset's small version, and KuaiRand's random exposure.

    python bench/ope_logs.py ../shared/data --out docs/tables

Open Bandit: the uniform policy from the logs of Bernoulli Thompson sampling, each campaign. KuaiRand: the channel was
drawn by lot; MTORL (default preset, protocol honest) beside constant, past-rate and boosted-tree policies, advertising
at the best 37.5 % of the steps, the difference to the log split into the part of the steps and that of the channels.
Writes ope-open-bandit.md and ope-kuairand.md.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from made_by import made_by

from headrace.cli import run as headrace

SHARE = "0.375"
POLICIES = ("uniform", "constant:short", "constant:mid", "constant:long", "past-rate", "trees")


def called(*words: str | Path) -> int:
    """One command of headrace, silent."""
    with contextlib.redirect_stdout(io.StringIO()):
        return headrace([str(word) for word in words])


def records(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def cell(rows: list[dict[str, Any]], digits: int = 4, **wanted: Any) -> str:
    """The figure of the one record that fits, with its interval."""
    part = wanted.pop("part", None)
    for r in rows:
        if r["setting"].get("part") == part and all(r[k] == v for k, v in wanted.items()):
            if r["value"] is None:
                return "refused"
            sign = "+" if wanted.get("against") else ""
            interval = "" if r["low"] is None else f" [{r['low']:{sign}.{digits}f}, {r['high']:{sign}.{digits}f}]"
            return f"{r['value']:{sign}.{digits}f}{interval}"
    return "-"


def open_bandit(data: Path, folder: Path) -> str:
    estimators = ("ips", "snips", "dm", "dr", "sndr", "switch-dr")
    lines = [
        "| campaign | logged | uniform's own log | " + " | ".join(estimators) + " | effective rows | mean weight |",
        "|---" * (5 + len(estimators)) + "|",
    ]
    for campaign in ("all", "men", "women"):
        for policy in ("bts", "random"):
            source = data / "open_bandit_small" / f"{policy}_{campaign}_{campaign}.parquet"
            called("data", "prepare", source, "--schema", "open-bandit", "--out", folder / f"{policy}-{campaign}")
        for policy, name in (("bts", "uniform"), ("random", "logged")):
            called(
                "ope", name, "--data", folder / f"{policy}-{campaign}", "--out", folder / f"value-{policy}-{campaign}"
            )
        rows, own = records(folder / f"value-bts-{campaign}"), records(folder / f"value-random-{campaign}")
        cells = [cell(rows, method="logged", metric="value_ips", against=None)]
        cells += [cell(own, method="logged", metric="value_ips", against=None)]
        for e in estimators:
            cells.append(cell(rows, method="uniform", metric=f"value_{e.replace('-', '_')}", against=None))
        cells += [cell(rows, 1, method="uniform", metric="ess"), cell(rows, 2, method="uniform", metric="mean_weight")]
        lines.append(f"| {campaign} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kuairand(data: Path, folder: Path) -> str:
    log, run = folder / "kuairand", folder / "mtorl"
    called("data", "prepare", data / "kuairand_random", "--schema", "kuairand-random-sample", "--out", log)
    called("train", "mtorl", "--data", log, "--out", run)
    called("ope", *POLICIES, run, "--data", log, "--propensity", "random", "--out", folder / "all-steps")
    called(
        "ope", *POLICIES, run, "--data", log, "--propensity", "random", "--select", SHARE, "--out", folder / "chosen"
    )
    everywhere, chosen = records(folder / "all-steps"), records(folder / "chosen")
    logged = cell(chosen, 3, method="logged", metric="value_ips", against=None)
    lines = [
        f"The log's own mean: {logged}. Values by `dr`; chosen steps: the best {SHARE} by the policy's own score.",
        "",
        "| policy | every step: value | minus logged | chosen steps: value | minus logged | by the steps "
        "| by the channels | snips | effective steps |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for policy in (*POLICIES, "mtorl"):
        of = {"method": policy, "metric": "value_dr"}
        cells = [
            cell(everywhere, 3, **of, against=None),
            cell(everywhere, 3, **of, against="logged"),
            cell(chosen, 3, **of, against=None),
            cell(chosen, 3, **of, against="logged"),
            cell(chosen, 3, **of, against="logged", part="selection"),
            cell(chosen, 3, **of, against="logged", part="channel"),
            cell(chosen, 3, method=policy, metric="value_snips", against=None),
            cell(chosen, 0, method=policy, metric="ess"),
        ]
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    lines += ["", "Paired, at the chosen steps:", "", "| difference | dr |", "|---|---|"]
    for r in chosen:
        if (
            r["metric"] == "value_dr"
            and "mtorl" in (r["method"], r["against"])
            and r["against"] not in (None, "logged")
        ):
            lines.append(f"| {r['method']} minus {r['against']} | {cell([r], 3, against=r['against'])} |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    told = made_by(f"python bench/ope_logs.py {given.data}")
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (("open-bandit", open_bandit), ("kuairand", kuairand)):
            text = measure(given.data, Path(folder))
            print(text, "\n")
            (given.out / f"ope-{name}.md").write_text(f"{text}\n\n{told}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
