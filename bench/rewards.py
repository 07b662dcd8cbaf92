"""What MTORL learns from each kind of reward, and what a price on cost changes.

    python bench/rewards.py ../shared/data --out docs/tables

KuaiRand's random log, protocol honest: the reward is a click, a long view, the play time, or gains fused by weights;
each run then advertises at the best 37.5 % of the steps by what it was taught, and is valued (dr) by every gain. The
world's ads log, channel drawn by lot: one run, its channel the largest expected click less s times expected cost, and
runs taught the penalised reward (3) itself, over s from 0 to 1; valued by clicks and by cost a step. Writes
rewards.md, penalty.md and pictures/penalty.svg.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from made_by import made_by

import headrace
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.journeys.seams import Estimate, Floats
from headrace.journeys.store import Journeys
from headrace.journeys.views import View, view
from headrace.ope.selection import threshold
from headrace.ope.valuation import Candidate, reward_of, value

SHARE = 0.375
REWARDS = {
    "is_click": {"is_click": 1.0},
    "long_view": {"long_view": 1.0},
    "play_time_ms": {"play_time_ms": 1.0},
    "is_click:1, long_view:10": {"is_click": 1.0, "long_view": 10.0},
    "all three": {"is_click": 1.0, "long_view": 1.0, "play_time_ms": 1.0},
}
PRICES = (0.0, 0.25, 0.5, 0.75, 1.0)


def shown(e: Estimate, digits: int = 3) -> str:
    return "refused" if e.value is None else f"{e.value:.{digits}f} [{e.low:.{digits}f}, {e.high:.{digits}f}]"


def expected(method: MTORL, steps: View, log: Journeys, s: float = 0.0) -> Floats:
    """(n, M) the reward that a method expects of each channel, less s times the expected cost."""
    found = method.predict(log, steps).reward_by_channel
    total: Floats = sum(w * found[name] for name, w in method.reward_weights.items())
    return total - s * np.maximum(found["cost"], 0.0) if s else total


def kinds(data: Path, folder: Path) -> str:
    """Every kind of reward, valued by every gain."""
    source = data / "kuairand_random" / "kuairand_sequence.parquet"
    log = headrace.prepare(source, "kuairand-random-sample", folder / "kuairand")
    split = log.split("honest", seed=0)
    rows = split.rows("test")
    gains = [g.name for g in log.schema.gains]
    candidates = {"by lot, every step": Candidate(np.full((len(rows), len(log.channels)), 1 / len(log.channels)))}
    losses: dict[str, str] = {}
    for name, weights in REWARDS.items():
        method = MTORL(MTORLConfig(reward_weights=weights)).fit(log, split, folder / f"run-{len(losses)}")
        fixed = threshold(expected(method, view(log, split, "validation", None, cut="exact"), log).max(axis=1), SHARE)
        steps = view(log, split, "test", None, cut="exact")
        best = expected(method, steps, log)
        assert np.array_equal(method.predict(log, steps).rows, rows)
        candidates[name] = Candidate(np.eye(best.shape[1])[best.argmax(axis=1)], fixed.chances(best.max(axis=1)))
        measured = headrace.measure(method, log, split, floors=())
        losses[name] = ", ".join(
            f"{r['setting'].get('gain', next(iter(weights)))} {r['metric'].split('/')[1]} {r['value']:.3f}"
            for r in measured.records
            if r["metric"] in ("reward/auc", "reward/rmse") and r["value"] is not None
        )
    lines = [
        "| taught | " + " | ".join(f"{g} a chosen step" for g in gains) + " | before the decision |",
        "|---" * (2 + len(gains)) + "|",
    ]
    values: dict[str, list[str]] = {name: [] for name in candidates}
    for gain in gains:
        found = value(
            candidates, log, rows, reward_of(log, rows, {gain: 1.0}), "random", ("ips", "snips", "dr"), paired=False
        )
        for name in candidates:
            values[name].append(shown(found[name].estimates["dr"]))
    for name, cells in values.items():
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {losses.get(name, '')} |")
    return "\n".join(lines)


def prices(folder: Path) -> tuple[str, pl.DataFrame]:
    """What a price on cost changes: clicks and cost a step, by s."""
    log = headrace.simulate_log(headrace.Scenario.load("ads"), 4_000, 7, "uniform", 0, folder / "ads")
    split = log.split("honest", seed=0)
    rows = split.rows("test")
    steps = view(log, split, "test", None, cut="exact")
    plain = MTORL(MTORLConfig(reward_weights={"click": 1.0})).fit(log, split, folder / "plain")
    measured: list[dict[str, Any]] = []
    for s in PRICES:
        config = MTORLConfig(reward_weights={"click": 1.0}, reward_target="penalised", penalty=s)
        taught = MTORL(config).fit(log, split, folder / f"penalised-{s}")
        scores = {
            "click less s times cost": expected(plain, steps, log, s),
            "taught the penalised reward": taught.predict(log, steps).reward_by_channel["penalised"],
        }
        for how, score in scores.items():
            of = {how: Candidate(np.eye(score.shape[1])[score.argmax(axis=1)])}
            for what in ("click", "cost"):
                column = np.asarray(log.gain("click") if what == "click" else log.column("cost"))[rows]
                found = value(of, log, rows, column.astype(np.float64), None, ("ips", "snips", "dr"))[how]
                e = found.estimates["dr"]
                measured.append({"s": s, "by": how, "figure": what, "value": e.value, "low": e.low, "high": e.high})
    frame = pl.DataFrame(measured)
    lines = ["| s | by | clicks a step | cost a step |", "|---|---|---|---|"]
    for s in PRICES:
        for how in frame["by"].unique(maintain_order=True):
            cells = []
            for what in ("click", "cost"):
                r = frame.filter((pl.col("s") == s) & (pl.col("by") == how) & (pl.col("figure") == what)).row(
                    0, named=True
                )
                cells.append("refused" if r["value"] is None else f"{r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]")
            lines.append(f"| {s:g} | {how} | " + " | ".join(cells) + " |")
    return "\n".join(lines), frame


def picture(frame: pl.DataFrame) -> Any:
    """Clicks and cost a step against s, with intervals."""
    base = alt.Chart(frame.drop_nulls()).encode(alt.X("s:Q", title="s, clicks a unit of cost"), color="by:N")
    band = base.mark_area(opacity=0.15).encode(alt.Y("low:Q", title="a step"), alt.Y2("high:Q"))
    lines = (band + base.mark_line(point=True).encode(alt.Y("value:Q"))).properties(width=280, height=200)
    return lines.facet(column=alt.Column("figure:N", title=None)).resolve_scale(y="independent")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    told = made_by(f"python bench/rewards.py {given.data}")
    with tempfile.TemporaryDirectory() as folder:
        text = kinds(given.data, Path(folder))
        print(text, "\n", flush=True)
        (given.out / "rewards.md").write_text(f"{text}\n\n{told} Seed 0.\n", encoding="utf-8")
        text, frame = prices(Path(folder))
        print(text)
        (given.out / "penalty.md").write_text(f"{text}\n\n{told} Seed 0.\n", encoding="utf-8")
        picture(frame).save(given.out.parent / "pictures" / "penalty.svg")


if __name__ == "__main__":
    main()
