"""Pictures of the advertising world for docs/world.md.

    python bench/world_pictures.py [--out docs/pictures]

world_user.svg     one user's fourteen days: recent exposures, awareness, satedness, purchases
world_response.svg what repetition takes and rest gives back; what awareness lifts
world_policies.svg profit above no advert, day by day, of policies on the same users
"""

import argparse
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from headrace.simulate.ads import NO_AD, AdsWorld
from headrace.simulate.policies import binding, rollout
from headrace.simulate.reference import Planned
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import mean_of

ADS = Scenario.load("ads")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments.add_argument("--png", action="store_true", help="PNG instead of SVG, to look at")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, chart in (("user", user()), ("response", response()), ("policies", policies())):
        chart.save(given.out / f"world_{name}.{'png' if given.png else 'svg'}")


def user() -> alt.VConcatChart:
    """The first user with two purchases under the logging policy: adverts, and what they leave behind."""
    ads, users = ADS.ads, 400
    world = AdsWorld(ADS, users, seed=1)
    bind, _ = binding("logging", ADS)
    steps = list(rollout(world, bind(world)))
    rows = np.concatenate([step.context["row"] for step in steps])
    bought = np.bincount(rows, weights=np.concatenate([step.outcomes.conversion for step in steps]), minlength=users)
    chosen = int(np.flatnonzero(bought >= 2)[0])
    events = []
    for step in steps:
        for i in np.flatnonzero(step.context["row"] == chosen):
            click, purchase = bool(step.outcomes.click[i]), bool(step.outcomes.conversion[i])
            what = "purchase" if purchase else "click" if click else "exposure"
            day = float((step.context["time"][i] - ADS.start_ms) / 86_400_000)
            channel = ADS.channels[int(step.outcomes.channel[i])]
            events.append({"day": day, "channel": channel, "what": what, "weight": 1 + ads.click_carry_over * click})
    state, sated = [], []
    for t in np.linspace(0, ADS.days, 561):
        past = [e for e in events if e["day"] < t]
        for channel in ADS.channels:
            gone = np.array([t - e["day"] for e in past if e["channel"] == channel])
            weight = np.array([e["weight"] for e in past if e["channel"] == channel])
            recent = np.exp2(-gone / ads.saturation_half_life_days).sum()
            aware = (weight * np.exp2(-gone / ads.carry_over_half_life_days)).sum()
            state.append({"day": t, "channel": channel, "recent": recent, "share": aware / (1 + aware)})
        since = np.array([t - e["day"] for e in past if e["what"] == "purchase"])
        level = ADS.users.sated_by_purchase * np.exp2(-since / ADS.users.sated_half_life_days).sum()
        sated.append({"day": t, "factor": np.exp(-level)})
    x = alt.X("day:Q", title=None, scale=alt.Scale(domain=[0, ADS.days]))
    colour = alt.Color("channel:N", sort=list(ADS.channels), scale=alt.Scale(domain=list(ADS.channels)))
    kinds = ["exposure", "click", "purchase"]
    sizes = alt.Size("what:N", scale=alt.Scale(domain=kinds, range=[30, 110, 260]), legend=None)
    shapes = alt.Shape("what:N", title="advert brought", sort=kinds,
                       scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"]))  # fmt: skip
    shown = alt.Chart(pl.DataFrame(events)).mark_point(filled=True, opacity=0.9)
    shown = shown.encode(x, alt.Y("channel:N", sort=list(ADS.channels), title=None), colour, shapes, sizes)
    lines = alt.Chart(pl.DataFrame(state)).mark_line(clip=True)
    fall = alt.Chart(pl.DataFrame(sated)).mark_line(color="black")
    wide = {"width": 620}
    return alt.vconcat(
        shown.properties(height=110, title="Adverts shown to one user, and what came of them", **wide),
        lines.encode(x, alt.Y("recent:Q", title="recent exposures S"), colour).properties(height=110, **wide),
        lines.encode(x, alt.Y("share:Q", title="awareness A / (1 + A)"), colour).properties(height=110, **wide),
        fall.encode(
            alt.X("day:Q", scale=alt.Scale(domain=[0, ADS.days])), alt.Y("factor:Q", title="hazard times")
        ).properties(height=80, title="What the purchases after an advert leave of the readiness to buy", **wide),
    )


def response() -> alt.HConcatChart:
    """Mean click probability in video after 0 to 5 adverts on day 0, in days of rest; purchases in search likewise."""
    users, video, search = 3000, ADS.channel("video"), ADS.channel("search")
    rows = []
    for most in (0, 1, 2, 3, 5):
        world = AdsWorld(ADS, users, seed=6, days=15)
        came = world._count >= 5
        while not world.done:
            if world.slot == 0 and world.day > 0:
                mine = came[world.observe()["row"]]
                rates = world.true_rates()
                bought = rates.conversion[mine, search].mean() / rates.click[mine, search].mean()
                rows.append({"day": world.day, "adverts": most, "click": rates.click[mine, video].mean(),
                             "bought": bought})  # fmt: skip
            world.step(video if world.day == 0 and world.slot < most else NO_AD)
    frame = pl.DataFrame(rows)
    base = frame.filter(pl.col("adverts") == 0).select("day", pl.col("click").alias("c0"), pl.col("bought").alias("b0"))
    frame = frame.join(base, on="day").with_columns(
        (pl.col("click") / pl.col("c0")).alias("clicks kept"), (pl.col("bought") / pl.col("b0")).alias("lift")
    )
    colour = alt.Color("adverts:O", title="video adverts on day 0", scale=alt.Scale(scheme="viridis"))
    lines = alt.Chart(frame).mark_line(point=True).encode(alt.X("day:Q", title="days later"), color=colour)
    y_kept = alt.Y("clicks kept:Q", title="video clicks, as a share of unsaturated", scale=alt.Scale(zero=False))
    y_lift = alt.Y("lift:Q", title="search purchases per click, times unlifted", scale=alt.Scale(zero=False))
    return alt.hconcat(
        lines.encode(y_kept).properties(width=290, height=250, title="Saturation wears off"),
        lines.encode(y_lift).properties(width=290, height=250, title="Carry-over: video lifts search"),
    )


def policies(users: int = 8000) -> alt.LayerChart:
    """Cumulative profit above the same users' rollout without adverts."""

    def course(policy: object) -> list[np.ndarray]:
        world = AdsWorld(ADS, users, seed=1)
        bind, _ = binding(policy, ADS)  # type: ignore[arg-type]
        days: list[np.ndarray] = []
        for _ in rollout(world, bind(world)):
            while len(days) < world.day:
                t = world.totals
                days.append(t["revenue"] + t["organic_revenue"] - t["cost"])
        return days

    without = course("none")
    named = {"uniform": "uniform", "greedy-click": "greedy-click", "greedy-profit (myopic)": "greedy-profit",
             "planned (sees ahead)": Planned()}  # fmt: skip
    rows = []
    for name, policy in named.items():
        rows.append({"day": 0, "policy": name, "profit": 0.0, "low": 0.0, "high": 0.0})
        for day, (worth, none) in enumerate(zip(course(policy), without, strict=True)):
            gained = mean_of(worth - none)
            rows.append(
                {"day": day + 1, "policy": name, "profit": gained.value, "low": gained.low, "high": gained.high}
            )
    legend = alt.Legend(symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=3)
    colour = alt.Color("policy:N", sort=list(named), title="policy", legend=legend)
    base = alt.Chart(pl.DataFrame(rows)).encode(alt.X("day:Q", title="days"), color=colour)
    band = base.mark_area(opacity=0.18).encode(alt.Y("low:Q", title="EUR a user above no advert"), alt.Y2("high:Q"))
    line = base.mark_line().encode(alt.Y("profit:Q"))
    layered: alt.LayerChart = band + line
    return layered.properties(width=520, height=280, title="Profit above no advert (8,000 users, 95 % paired interval)")


if __name__ == "__main__":
    main()
