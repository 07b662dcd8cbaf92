"""Every channel method of MTORL's Tables 2 and 3 beside it, on the authors' samples: `headrace compare channel`.

    python bench/channel.py [--samples kuairand criteo] [--protocols honest paper] [--seeds 5] [--tune 10]

Each (sample, protocol) is one comparison, kept in --work: what is there is not fitted again, and more seeds may be
asked for later. Leaves docs/tables/channel-SAMPLE-PROTOCOL.md: imitation (Table 2), and what the choices bring
(Table 3).
"""

import argparse
from pathlib import Path

from made_by import made_by
from mtorl import SAMPLES

from headrace.cli import run
from headrace.report.compare_channel import judged, seconds
from headrace.report.names import floor_order, method_words
from headrace.report.parts import read
from headrace.report.records import Record, load, settle

PROPENSITY = {"kuairand": ["--propensity", "random"], "criteo": []}
IMITATION = ("action/f1_macro", "action/precision_macro", "action/recall_macro", "action/accuracy", "action/log_loss")
BROUGHT = ("reward/log_loss", "reward_by_channel/log_loss", "imitation_reward", "gain_of_chosen", "value_snips")
WORDS = {
    "action/f1_macro": "F1",
    "action/precision_macro": "precision",
    "action/recall_macro": "recall",
    "action/accuracy": "accuracy",
    "action/log_loss": "log loss",
    "reward/log_loss": "log loss of the gain",
    "reward_by_channel/log_loss": "given the channel",
    "imitation_reward": "imitation score",
    "gain_of_chosen": "gain of chosen steps",
    "value_snips": "value of the channels",
    "value_snips of chosen": "of both",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES))
    parser.add_argument("--protocols", nargs="+", default=["honest", "paper"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tune", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("runs/channel"))
    parser.add_argument("--out", type=Path, default=Path("docs/tables"))
    given = parser.parse_args()
    for sample in given.samples:
        schema, file = SAMPLES[sample]
        for protocol in given.protocols:
            folder = given.work / f"{sample}-{protocol}"
            words = ["--data", given.data / file, "--schema", schema, "--protocol", protocol, "--out", folder]
            words += ["--seeds", given.seeds, "--tune", given.tune, *PROPENSITY[sample]]
            code = run(["compare", "channel", *map(str, words)])
            if code:
                raise SystemExit(code)
            command = f"python bench/channel.py --samples {sample} --protocols {protocol}"
            command += f" --seeds {given.seeds} --tune {given.tune}"
            text = "\n".join([*tables(folder), "", made_by(command)]) + "\n"
            (given.out / f"channel-{sample}-{protocol}.md").write_text(text, encoding="utf-8")
            print(text, flush=True)


def tables(folder: Path) -> list[str]:
    """Both tables in Markdown: a row a method, the cheapest floors last; a mark where it differs from the reference."""
    told = read(folder / "comparison.json", dict)
    records = [named(r) for r in settle(load(folder / "results.json"))]
    spent = seconds(folder, told)
    held = {(r["method"], r["metric"]): r for r in records if not r["against"]}
    pairs = {(r["method"], r["metric"]): r for r in records if r["against"] == told["reference"]}
    f1 = {m: r["value"] or 0.0 for (m, metric), r in held.items() if metric == "action/f1_macro"}
    rank = sorted({m for m, _ in held}, key=lambda m: (floor_order(m), -f1.get(m, 0.0)))
    lines: list[str] = []
    for metrics in (IMITATION, (*BROUGHT, "value_snips of chosen")):
        there = [m for m in metrics if any(key[1] == m for key in held)]
        heads = [WORDS[m] for m in there] + (["seconds a fit"] if metrics is IMITATION else [])
        lines += ["", "| method | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
        for method in rank:
            cells = [cell(held.get((method, m)), pairs.get((method, m)), told) for m in there]
            if metrics is IMITATION:
                cells.append(f"{spent[method]:.0f}" if method in spent else "")
            if any(cells):
                lines.append(f"| {method_words(method)} | " + " | ".join(cells) + " |")
    tuned = f"{told['tuned']} trials each" if told["tuned"] else "defaults, nothing tuned"
    lines += [
        "",
        f"{told['seeds']} seed{'s' if told['seeds'] > 1 else ''} on one split, {tuned}. Brackets: 95 % intervals over "
        f"users. + better, - worse than {method_words(told['reference'])} (paired, after Holm's correction for all "
        "methods of the column); no mark: cannot be told.",
    ]
    return lines[1:]


def named(r: Record) -> Record:
    """What belongs to the chosen steps alone under a name of its own, without the share in its setting."""
    if "share" not in r["setting"]:
        return r
    name = "value_snips of chosen" if r["metric"] == "value_snips" else r["metric"]
    return r | {"metric": name, "setting": {k: v for k, v in r["setting"].items() if k != "share"}}


def cell(of: Record | None, pair: Record | None, told: dict[str, object]) -> str:
    if of is None:
        return ""
    if of["value"] is None:
        return "refused"
    text = f"{of['value']:.4f}"
    if of["low"] is not None:
        text += f" [{of['low']:.4f}, {of['high']:.4f}]"
    if pair is None:
        return text
    plain = pair | {"metric": "value_snips_of_chosen"} if pair["metric"] == "value_snips of chosen" else pair
    return text + {"better": " +", "worse": " -"}.get(judged(plain, told), "")


if __name__ == "__main__":
    main()
