"""Small logs whose policy is known."""

from pathlib import Path

import numpy as np

from headrace.journeys.schema import Feature, Gain, LogSchema
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys, JourneysWriter


def drawn_log(path: Path, chances: Floats, users: int = 300, steps: int = 10) -> Journeys:
    """Channels a, b, c drawn with `chances`, (2, 3), before and after noon; a click a step in five."""
    rng = np.random.default_rng(0)
    n = users * steps
    hour = rng.integers(0, 24, n)
    late = (hour >= 12).astype(int)
    channel = (rng.random((n, 1)) > chances[late].cumsum(axis=1)).sum(axis=1)
    schema = LogSchema(
        "drawn",
        user="user",
        channel="channel",
        channels=("a", "b", "c"),
        features=(Feature("hour"),),
        gains=(Gain("click"),),
        propensity="propensity",
    )
    columns = {
        "channel": channel.astype(np.int32),
        "feature/hour": hour.astype(np.float64),
        "gain/click": (rng.random(n) < 0.2).astype(np.float64),
        "propensity": chances[late, channel],
    }
    with JourneysWriter(path / "journeys", schema) as writer:
        writer.append(np.arange(users), np.full(users, steps), columns)
        return writer.close()
