"""The five lines of `headrace.__doc__`, on a simulated log that was written to a parquet file.

python examples/notebook.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import polars as pl

import headrace


def write_log(folder: Path, users: int = 100) -> None:
    """A simulated log as a flat file, and the schema that says what its columns are."""
    world = headrace.simulate_log(headrace.Scenario.load("ads"), users, 20, "logging", 0, folder / "world")
    columns = {"user": world.users[world.user_of_step], "time": world.time}
    columns["channel"] = [world.channels[code] for code in world.channel]
    columns |= {"hour": world.feature("hour"), "click": world.gain("click"), "cost": world.column("cost")}
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")
    headrace.LogSchema(
        name="my-log",
        user="user",
        time="time",
        channel="channel",
        features=(headrace.Feature("hour"),),
        gains=(headrace.Gain("click"),),
        cost=headrace.Cost("cost", "EUR"),
    ).save(folder / "log.schema.toml")


def main(folder: Path) -> None:
    write_log(folder)
    journeys = headrace.prepare(folder / "log.parquet", str(folder / "log.schema.toml"), folder / "journeys")
    split = journeys.split("honest", seed=0)
    model = headrace.MTORL(headrace.MTORLConfig(width=16, heads=2, epochs=3)).fit(journeys, split, folder / "run")
    scores = headrace.measure(model, journeys, split, floors=("prior", "past-rate"))
    chosen = headrace.recommend(model, journeys)

    for record in scores.records:
        if record["metric"] in ("action/log_loss", "reward/log_loss") and record["against"] is None:
            print(f"{record['metric']:16} {record['method']:10} {record['value']:.3f}  (n = {record['n']})")
    print(chosen.head(5))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="headrace-example-")))
