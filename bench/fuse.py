"""Fusion in a world: table 1, Q over training, what policies do beside the log, sweeps, and the daily cycle.

    python bench/fuse.py table   --world "kuairand:long sessions" --seeds 1
    python bench/fuse.py figures --world "kuairand:long sessions"
    python bench/fuse.py sweeps  --world "kuairand:long sessions"
    python bench/fuse.py variants --world kuairand
    python bench/fuse.py references --world kuairand
    python bench/fuse.py cycle   --world kuairand --days 14

Smaller than the presets (`quick`, 5,000 updates; `default` has 30,000, `paper` 300,000, which `table --preset` takes),
so that it ends on two shared cores; what is done stays in --runs and is not done again. Tables go to
docs/tables/fuse-*.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from made_by import made_by
from scipy.stats import spearmanr

from headrace.evaluate.results import Record, aggregate
from headrace.evaluate.significance import over_seeds
from headrace.fuse import bo
from headrace.fuse.acting import Fixed, together, world_box
from headrace.fuse.comparing import EVALUATION, LATENT, STATIC, Sizes, Table, described, world_named
from headrace.fuse.cycle import ARMS, CycleConfig, cycle
from headrace.fuse.exploration import Exploration
from headrace.fuse.fusion import LogSum, kendall
from headrace.fuse.methods import METHODS, load
from headrace.fuse.replay import logged_weights, scores_of
from headrace.fuse.value import ESTIMATORS, MOST_CHANGE
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.report import figures
from headrace.simulate import feed_references
from headrace.simulate.calibrate import variants
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.feed_policies import rollout
from headrace.simulate.feed_value import FeedValue

TABLES, PICTURES = Path("docs/tables"), Path("docs/pictures")
UPDATES = 5_000
CHANGES = {"updates": UPDATES, "samples": 5, "passes": 3, "trials": 30, "generations": 5, "members": 12, "views": 4}
SIZES = Sizes(users=1_500, days=3)
ORDER = (
    "bo",
    "es",
    "td3",
    "uwac",
    "cql-sac",
    "iql",
    "td3-bc",
    "unified",
    "bcq",
    "bcq-dwell",
    "bcq-re",
    "bcq-time",
    "bcq-integrity",
    "bcq-interaction",
)
VARIED = ("bo", "td3", "bcq")
SHOWN = ("play_time", "finish_rate", "exit", "positive")  # the four axes of the paper's figure 6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("part", choices=("table", "figures", "sweeps", "variants", "references", "cycle"))
    arguments.add_argument("--world", default="kuairand:long sessions")
    arguments.add_argument("--methods", default=",".join(ORDER))
    arguments.add_argument("--preset", default="quick", choices=("quick", "default", "paper"))
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--days", type=int, default=14)
    arguments.add_argument("--users", type=int, default=2_000)
    arguments.add_argument("--runs", type=Path, default=Path("runs/bench-fuse"))
    given = arguments.parse_args()
    name = _slug(given.world)
    of = _table_of(given.world, given.methods.split(","), given.runs, given.preset)
    command = f'python bench/fuse.py {given.part} --world "{given.world}"'
    if given.part == "table":
        chosen = "" if given.methods == ",".join(ORDER) else f" --methods {given.methods}"
        preset = "" if given.preset == "quick" else f" --preset {given.preset}"
        named = name if given.preset == "quick" else f"{given.preset}-{name}"
        table(of, given.seeds, named, f"{command}{preset} --seeds {given.seeds}{chosen}")
    elif given.part == "figures":
        training(of, name)
        actions(of, name, command)
    elif given.part == "sweeps":
        sweeps(of, name, command)
    elif given.part == "variants":
        in_variants(given.world, given.runs, command)
    elif given.part == "references":
        references(given.world, command)
    else:
        days(given, name, f"{command} --days {given.days} --users {given.users}")


def table(of: Table, seeds: int, name: str, command: str) -> None:
    found = [r for seed in range(seeds) for r in of.seed(seed, _say, _say)]
    whole = aggregate(found) if seeds > 1 else found
    held = {(r["method"], r["metric"], r["against"]): r for r in whole}
    lines = [
        "| method | conservative value | FQE | true reward | over BO | far from the log "
        "| dwell time | over BO | gap closed | positive rate over BO |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in ORDER:
        if (method, "dwell_time", None) not in held:
            continue

        def cell(metric: str, form: str, method: str = method) -> str:
            r = held.get((method, metric, None))
            return "" if r is None else _figure(r, form)

        far = held[method, "far_from_log", None]["value"]
        lines.append(
            f"| {method} | {cell('value_cfqe', '.1f')} | {cell('value_fqe', '.1f')} | "
            f"{cell('reward_per_session', '.1f')} | {cell('reward_per_session_gain', '+.1%')} | "
            f"{'' if far is None else format(far, '.0%')} | {cell('dwell_time', '.1f')} | "
            f"{cell('dwell_time_gain', '+.1%')} | {cell('dwell_time_gap_closed', '.0%')} | "
            f"{cell('positive_interaction_rate_gain', '+.1%')} |"
        )
    for name, words in ((STATIC, "static weights, searched longer"), (LATENT, "what sees the latent state")):
        reward, dwell = (
            [_figure(held[name, f"{figure}{of}", None], form) for of, form in (("", ".1f"), ("_gain", "+.1%"))]
            for figure in ("reward_per_session", "dwell_time")
        )
        positive = _figure(held[name, "positive_interaction_rate_gain", None], "+.1%")
        lines.append(f"| {words} | | | {' | '.join(reward)} | | {' | '.join(dwell)} | | {positive} |")
    lines += ["", *_ranks(found), "", *_fits(held), ""]
    reasons = _reasons([r for r in found if r["refused"] and r["metric"] in ESTIMATORS])
    lines += ["Refused, and the first seed's reason:", "", *reasons, ""] if reasons else []
    lines.append(
        f"{seeds} seed{'s' if seeds > 1 else ''}; {SIZES.log_users:,} users log {SIZES.log_days} days; {SIZES.users:,} "
        f"fresh users over {SIZES.days} days for the truth; {of.config('bcq', 0).updates:,} updates; intervals over "
        f"{'seeds' if seeds > 1 else 'users'}. Values and true reward a session in the reward's unit, discounted, "
        f"dwell time in s a user and day. Values are means of {SIZES.fqe_fits} fits of at most {SIZES.fqe_steps:,} "
        "updates; spread: their standard deviation; last fifth: how far their mean still moved over the last fifth of "
        f"the updates, as a share of the size of the logged returns (more than {MOST_CHANGE:.0%} is refused)."
    )
    _write(f"fuse-{name}", lines, command, found)


def _ranks(found: Sequence[Record]) -> list[str]:
    """How the estimators rank the methods in each seed, beside two truths: all, refused ones last, and the admitted."""
    held = {(r["seed"], r["method"], r["metric"]): r["value"] for r in found if r["against"] is None}
    seeds = sorted({seed for seed, *_ in held})
    lines = ["| Spearman, estimate with truth | refused last | among the admitted | how many are admitted |"]
    lines.append("|---|---|---|---|")
    for metric in ("value_cfqe", "value_fqe"):
        for figure, name in (("reward_per_session", "reward a session"), ("dwell_time", "dwell time")):
            every, some, counts = [], [], []
            for seed in seeds:
                values = {m: held[seed, m, metric] for m in ORDER if (seed, m, metric) in held}
                truth = {m: held[seed, m, figure] for m in values}
                admitted = {m: v for m, v in values.items() if v is not None}
                counts.append(len(admitted))
                if len(admitted) < 3:
                    continue
                last = min(admitted.values()) - 1.0
                told = [last if v is None else v for v in values.values()]
                every.append(float(spearmanr(list(truth.values()), told).statistic))
                some.append(float(spearmanr([truth[m] for m in admitted], list(admitted.values())).statistic))
            cells = [_spread(every), _spread(some), ", ".join(map(str, counts))]
            lines.append(f"| {metric}, {name} | {' | '.join(cells)} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    """Each seed's, and their mean with its interval."""
    if not values:
        return "none"
    told = ", ".join(format(v, ".2f") for v in values)
    if len(values) < 2:
        return told
    mean = over_seeds(values)
    return f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}] ({told})"


def _fits(held: dict[Any, Any]) -> list[str]:
    """How far the estimates are from the truth, and how their fits went."""
    lines = [
        "| method | conservative less true | spread | last fifth | FQE less true | spread | last fifth |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in ORDER:
        if (method, "value_cfqe", None) not in held:
            continue
        cells = []
        for metric in ("value_cfqe", "value_fqe"):
            for of, form in (("bias", "+.1f"), ("fit_spread", ".1f"), ("late_change", ".1%")):
                cells.append(_figure(held[method, f"{metric}_{of}", None], form, of == "bias"))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def training(of: Table, name: str) -> None:
    """Figure 5: Q at the policy's actions over training, and the spread of it."""
    rows = []
    for method in ("td3", "uwac", "cql-sac", "td3-bc", "bcq"):
        folder = of.out / "cells" / f"{method}-0"
        if not (folder / "metrics.jsonl").is_file():
            continue
        lines = [r for r in Run.open(folder).read_metrics() if r["stage"] == "policy"]
        q = {r["step"]: r["value"] for r in lines if r["metric"] == "q"}
        spread = {r["step"]: r["value"] for r in lines if r["metric"] == "q_spread"}
        rows += [
            {"step": s, "q": v, "low": v - spread[s], "high": v + spread[s], "method": method} for s, v in q.items()
        ]
    base = figures.chart(rows, "Q at the policy's actions", "band: its spread over states and twins").encode(
        x=alt.X("step:Q", title="updates", axis=alt.Axis(grid=False)),
        color=alt.Color("method:N", scale=alt.Scale(range=list(figures.LINES))).legend(symbolOpacity=1),
    )
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y="q:Q")
    figures.save(
        figures.finish(alt.layer(band, line).properties(title=base.title), 240, 480), PICTURES / f"fuse-q-{name}.svg"
    )


def actions(of: Table, name: str, command: str) -> None:
    """Figures 6 and 7: what policies do beside the log, and how far their rankings are from the logged ones."""
    base = of.base(0, _say)
    folder = of.out / "logs" / "lists-0"
    if not (folder / "journeys.json").is_file():
        simulate_feed(
            of.scenario, 150, 2, Fixed(base, world_box(of.scenario), Exploration("mixed", seed=0)), 77, folder
        )
    log = Journeys(folder)
    rows = np.arange(0, log.n_steps, max(1, log.n_steps // 400))
    names = scores_of(log)
    c = of.scenario.feed_task.candidates
    starts = log.column("item_offsets")[rows]
    scores = np.stack(
        [np.asarray(log.column(f"item/score/{n}"))[starts[:, None] + np.arange(c)] for n in names], axis=-1
    ).astype(np.float64)
    fusion = LogSum(tuple(p.offset for p in of.scenario.feed_task.predictions))
    logged = logged_weights(log, rows)
    wide = Exploration("mixed", seed=0).is_random(log.users)[log.users_of(rows)]
    told: dict[str, Any] = {"log, action noise": logged[~wide], "log, random": logged[wide]}
    taus = {"log, action noise": np.nan, "log, random": np.nan}
    told["bo"] = np.tile(base, (len(rows), 1))
    for method in ORDER[1:]:
        cell = of.out / "cells" / f"{method}-0"
        if (cell / "manifest.json").is_file() and "files" in Run.open(cell).manifest:
            policy = load(Run.open(cell)).policy()
            told[method] = policy.weights_of(policy.state.of_rows(log, rows))
    for method, weights in told.items():
        if len(weights) == len(rows):
            taus[method] = float(np.nanmean(kendall(fusion, scores, weights, np.tile(base, (len(rows), 1)))))
    lines = [
        f"| weights of | {' | '.join(SHOWN)} | Kendall's tau with BO's ranking |",
        f"|---|{'---|' * len(SHOWN)}---|",
    ]
    for method, weights in told.items():
        cells = []
        for n in SHOWN:
            low, middle, high = np.quantile(weights[:, names.index(n)], (0.05, 0.5, 0.95))
            cells.append(f"{middle:+.2f} ({low:+.2f} to {high:+.2f})")
        tau = "" if np.isnan(taus[method]) else f"{taus[method]:.2f}"
        lines.append(f"| {method} | {' | '.join(cells)} | {tau} |")
    lines += ["", f"Medians with the 5 % and 95 % quantiles over {len(rows)} requests, seed 0."]
    _write(f"fuse-actions-{name}", lines, command)


def sweeps(of: Table, name: str, command: str) -> None:
    """Figure 8: the bound of the perturbation, and the critics' learning rate."""
    ready, log, parts, _ = of.log("mixed", 0, of.base(0, _say))
    settings = [{"rho": r} for r in (0.0, 0.05, 0.15, 0.5)] + [{"critic_rate": r} for r in (2e-4, 5e-3)]
    settings.append({"saturation": 0.0})  # as printed
    acts, dead = {}, {}
    for changes in settings:
        label = ", ".join(f"{k} {v:g}" for k, v in changes.items())
        _say(label)
        folder = of.out / "sweeps" / label.replace(" ", "-")
        config = METHODS["bcq"].config_type(
            **{**METHODS["bcq"].presets["quick"], "samples": 5, "updates": UPDATES, **changes}
        )
        method = METHODS["bcq"](config)
        run = Run.create(folder, method.settings(), resume=True)
        method = load(run) if "files" in run.manifest else method.fit(log, parts, run, progress=False, prepared=ready)
        run.seal()
        acts[label] = method.policy().of_states
        dead[label] = [r["value"] for r in run.read_metrics() if r["metric"] == "dead"][-1]
    acts["bo"] = bo.static(ready.actions.scaled(of.base(0, _say)[None])[0])
    users = np.arange(EVALUATION, EVALUATION + 1_500)
    values = together(of.scenario, list(acts.values()), users, 3, 0, ready.actions, ready.state)
    found = dict(zip(acts, values, strict=True))
    lines = ["| BCQ with | dwell time over BO | positive rate over BO | without a gradient |", "|---|---|---|---|"]
    for label in acts:
        if label != "bo":
            gains = [found[label].relative(found["bo"], f) for f in ("dwell_time", "positive_interaction_rate")]
            lines.append(
                f"| {label} | "
                + " | ".join(f"{g.value:+.1%} [{g.low:+.1%}, {g.high:+.1%}]" for g in gains)
                + f" | {dead[label]:.0%} |"
            )
    lines += [
        "",
        f"{UPDATES:,} updates, one seed, 1,500 fresh users over 3 days; the other settings are the preset's. Without a "
        "gradient: the share of the perturbation's outputs, over states and weights, of whose slope tanh leaves less "
        "than 1 %.",
    ]
    _write(f"fuse-sweeps-{name}", lines, command)


def in_variants(world: str, runs: Path, command: str) -> None:
    """BCQ and TD3 beside Bayesian optimisation in every variant of a world, by the truth and by the log."""
    lines = [
        "| variant | bcq over BO: dwell time | positive rate | td3 over BO: dwell time "
        "| static, searched longer, over BO | conservative value: bo | bcq | td3 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    records = []
    for variant in variants(world_named(world)):
        found = _table_of(f"{world}:{variant}", VARIED, runs).seed(0, _say, _say)
        records += found
        held = {(r["method"], r["metric"]): r for r in found if r["against"] is None}
        cells = [
            _figure(held["bcq", "dwell_time_gain"], "+.1%"),
            _figure(held["bcq", "positive_interaction_rate_gain"], "+.1%"),
            _figure(held["td3", "dwell_time_gain"], "+.1%"),
            _figure(held[STATIC, "dwell_time_gain"], "+.1%"),
            *(_figure(held[method, "value_cfqe"], ".1f") for method in ("bo", "bcq", "td3")),
        ]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    lines += [
        "",
        f"One seed, {UPDATES:,} updates, {SIZES.log_users:,} users log {SIZES.log_days} days, {SIZES.users:,} fresh "
        f"users over {SIZES.days} days for the truth; intervals over users. Values a session in the reward's unit.",
    ]
    _write(f"fuse-variants-{_slug(world)}", lines, command, records)


def references(name: str, command: str) -> None:
    """What is to be had in every variant of a world: by static weights, by weights from a user's true traits and mood,
    by the true response of each candidate."""
    settings = feed_references.Search()
    lines = [
        "| variant | dwell time, the best static weights | over them: weights by the user's true traits and mood | "
        "over them: scores by each candidate's true response |",
        "|---|---|---|---|",
    ]
    for variant, scenario in variants(world_named(name)).items():
        _say(variant)
        fixed = feed_references.search_static(scenario, settings).parameters
        moved = feed_references.search_per_user(scenario, replace(settings, seed=1), fixed).parameters
        latent = feed_references.search_latent(scenario, settings).parameters
        found = []
        for policy in (feed_references.static(fixed), feed_references.per_user(moved), feed_references.latent(latent)):
            world = FeedWorld(scenario, np.arange(EVALUATION, EVALUATION + 6_000), 0, 3)
            for _ in rollout(world, policy(world)):
                pass
            found.append(FeedValue(variant, 3, world.totals, 0))
        dwell = found[0]["dwell_time"]
        gains = [value.relative(found[0], "dwell_time") for value in found[1:]]
        cells = [f"{dwell.value:.1f} [{dwell.low:.1f}, {dwell.high:.1f}]"]
        cells += [f"{g.value:+.1%} [{g.low:+.1%}, {g.high:+.1%}]" for g in gains]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Each searched by the cross-entropy method, {settings.generations} generations of {settings.members} on "
        f"{settings.users} fresh users over {settings.days} days; 6,000 other users over 3 days for the values. Dwell "
        "time in s a user and day.",
    ]
    _write(f"fuse-references-{name}", lines, command)


def days(given: Any, name: str, command: str) -> None:
    """The daily cycle."""
    config = METHODS["bcq"].config_type(**{**METHODS["bcq"].presets["quick"], "samples": 5, "updates": UPDATES})
    out = given.runs / f"cycle-{name}"
    out.mkdir(parents=True, exist_ok=True)
    sizes = CycleConfig(given.days, users=given.users, explorers=given.users, trials=30)
    found = cycle("bcq", world_named(given.world), given.world, config, sizes, out, _say)
    held = {(r["method"], r["metric"], r["against"], r["setting"].get("day")): r for r in found}
    arms = ("bcq-cycle", "bcq-frozen", "bo")
    assert len(arms) == len(ARMS)
    lines = [
        "| day | dwell time: cycle | frozen | BO | cycle - BO | cycle - frozen | positive rate: cycle - BO |",
        "|---|---|---|---|---|---|---|",
    ]
    for day in (*range(1, given.days + 1), None):
        cells = [_figure(held[arm, "dwell_time", None, day], ".1f", False) for arm in arms]
        cells += [_figure(held["bcq-cycle", "dwell_time", other, day], "+.2f") for other in ("bo", "bcq-frozen")]
        cells.append(_figure(held["bcq-cycle", "positive_interaction_rate", "bo", day], "+.4f"))
        lines.append(f"| {day or f'{sizes.keep + 1} to {given.days}'} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{given.users} served users, the same of all arms; as many explorers; {UPDATES:,} updates a night, one seed.",
    ]
    _write(f"fuse-cycle-{name}", lines, command, found)


def _slug(name: str) -> str:
    return name.replace(":", "-").replace(" ", "-")


def _table_of(world: str, methods: Sequence[str], runs: Path, preset: str = "quick") -> Table:
    """A comparison that goes on in a folder of the world's name."""
    out = runs / _slug(world if preset == "quick" else f"{preset}:{world}")
    changes = CHANGES if preset == "quick" else {}
    table = Table(world_named(world), world, tuple(methods), preset, changes, SIZES, out)
    Run.create(out, described(table), resume=True)  # refuses a folder of other settings
    return table


def _figure(r: dict[str, Any], form: str, interval: bool = True) -> str:
    if r["value"] is None:
        return "refused" if "value" in r["metric"] else "-"
    if r["low"] is None or not interval:
        return format(r["value"], form)
    return f"{r['value']:{form}} [{r['low']:{form}}, {r['high']:{form}}]"


def _reasons(refused: list[Record]) -> list[str]:
    """A line for each method and estimator that was refused, in how many seeds, with the first one's words."""
    told: dict[tuple[str, str], list[str]] = {}
    for r in refused:
        told.setdefault((r["method"], r["metric"]), []).append(str(r["refused"]))
    return [
        f"- {method}, {metric}, {len(why)} of the seeds: {why[0]}" for (method, metric), why in sorted(told.items())
    ]


def _say(text: str) -> None:
    print(text, flush=True)


def _write(name: str, lines: list[str], command: str, records: Any = None) -> None:
    text = "\n".join([*lines, "", made_by(command)]) + "\n"
    (TABLES / f"{name}.md").write_text(text, encoding="utf-8")
    if records is not None:
        (TABLES / f"{name}.json").write_text(json.dumps(records) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
