"""A log of your own, from a csv file to recommendations, by the commands alone.

    python examples/own_log.py [FOLDER]

The log is a shop's messages: who was written to, when, by which medium, what it cost, whether the message was opened.
None of its columns has a name that headrace knows; `data inspect` drafts what each of them is, a person corrects the
draft, and everything after that follows from it.
"""

import csv
import datetime
import random
import sys
import tempfile
from pathlib import Path

from headrace.cli import run

COST = {"mail": 0.01, "push": 0.02, "sms": 0.10}


def write_log(path: Path, customers: int = 120) -> None:
    """Some like push messages, some do not; all else is noise."""
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["customer", "sent_at", "medium", "handset", "town", "opened", "paid_eur"])
        for number in range(customers):
            town, likes_push = rng.choice(["north", "south", "east"]), rng.random() < 0.5
            moment = datetime.datetime(2024, 3, 1) + datetime.timedelta(hours=200 * rng.random())
            for _ in range(rng.randint(3, 14)):
                moment += datetime.timedelta(hours=rng.expovariate(1 / 30))
                medium = rng.choice(list(COST))
                opened = rng.random() < (0.6 if medium == "push" and likes_push else 0.15)
                row = [f"c{number:03d}", moment.isoformat(sep=" ", timespec="seconds"), medium]
                log.writerow([*row, rng.choice(["old", "new"]), town, int(opened), COST[medium]])


def correct(schema: Path) -> None:
    """What a person would do in an editor: the handset is known beforehand, and the price was not taken for a cost."""
    text = schema.read_text()
    parts = text.split("\n\n")
    parts = [part for part in parts if 'name = "paid_eur"' not in part]
    parts = [part.replace('known = "after"', 'known = "before"') if '"handset"' in part else part for part in parts]
    schema.write_text("\n\n".join([*parts, '[cost]\nname = "paid_eur"\nunit = "EUR"\ncontext = true\n']))


def headrace(*words: str | Path) -> None:
    """Show a command and run it, as a terminal would."""
    print("$ headrace", *words)
    code = run([str(word) for word in words])
    if code:
        sys.exit(code)


def main(folder: Path) -> None:
    log, schema, journeys, model = (folder / name for name in ("log.csv", "log.schema.toml", "journeys", "model"))
    write_log(log)
    headrace("data", "inspect", log, "--out", schema)
    correct(schema)
    headrace("data", "prepare", log, "--schema", schema, "--out", journeys)
    headrace("data", "audit", journeys)
    headrace("train", "mtorl", "--data", journeys, "--preset", "tiny", "--set", "epochs=4", "--out", model)
    headrace("evaluate", model, "--floors", "prior", "past-rate")
    headrace("recommend", model, "--data", journeys, "--budget", "0.5", "--out", folder / "next.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="headrace-example-")))
