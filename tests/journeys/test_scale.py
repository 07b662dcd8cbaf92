"""A log four times the memory that is allowed can be split, fitted, counted and iterated; a small one is quick."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from journey_logs import plain_log

from headrace.journeys.prepare import prepare
from headrace.journeys.readers.samples import CRITEO
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import view

WIDE = LogSchema(
    "wide",
    user="u",
    time="t",
    time_unit="s",
    channel="c",
    channels=("a", "b", "c", "d"),
    features=(
        Feature("age", level="user"),
        *(Feature(f"n{i}") for i in range(4)),
        *(Feature(f"k{i}", "categorical", "after") for i in range(6)),
    ),
    gains=(Gain("click"), Gain("buy", known="at:bought")),
    cost=Cost("w"),
)
STEPS_OF_A_USER = 40

# What training does with a log, told to a process of its own: split, fit, count, and one epoch of encoded batches.
TRAINING = """
import resource, sys
import numpy as np
from headrace.journeys import statistics, transforms
from headrace.journeys.store import Journeys
from headrace.journeys.views import view

path, allowance, pieces = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if pieces:
    statistics.user_chunks.__defaults__, transforms.PIECE, statistics.IN_MEMORY = (pieces,), pieces, 8 * pieces
with open("/proc/self/status") as status:
    held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (held + allowance, held + allowance))
try:
    np.ones(allowance + 2**20, dtype=np.uint8)
except MemoryError:
    pass
else:
    sys.exit("the limit does not hold")

journeys = Journeys(path)
split = journeys.split("honest")
fitted = transforms.Transforms.fit(journeys, split.rows("train"))
so_far = statistics.running(journeys, fitted.statistics)
steps = 0
for batch in view(journeys, split, "train", 20, so_far=so_far).batches(64, seed=0):
    fitted.encode(batch.history), fitted.encode_context(batch)
    steps += int(batch.label.sum())
assert steps == split.parts["train"].sum()
print("done")
"""


def wide_log(path: Path, users: int) -> Journeys:
    """Users of 40 steps each, 109 bytes a step, written in blocks."""
    rng = np.random.default_rng(0)
    with JourneysWriter(path, WIDE) as writer:
        for first in range(0, users, 10_000):
            ids = np.arange(first, min(first + 10_000, users))
            n = len(ids) * STEPS_OF_A_USER
            moments = rng.integers(0, 100, (len(ids), STEPS_OF_A_USER)).cumsum(axis=1).ravel().astype(float)
            columns = {
                "time": moments,
                "channel": rng.integers(0, 4, n).astype(np.int16),
                "cost": rng.random(n),
                "gain/click": rng.integers(0, 2, n).astype(np.int8),
                "gain/buy": rng.integers(0, 2, n).astype(np.int8),
                "known_at/buy": moments + rng.integers(0, 500, n),
                "user/age": rng.random(len(ids)),
            }
            columns |= {f"feature/n{i}": rng.random(n) for i in range(4)}
            columns |= {f"feature/k{i}": rng.integers(0, 500, n).astype(float) for i in range(6)}
            writer.append(ids, np.full(len(ids), STEPS_OF_A_USER), columns)
        return writer.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on data is Linux's")
@pytest.mark.parametrize(
    ("users", "pieces"),
    [(3_000, 1_024), pytest.param(60_000, 0, marks=pytest.mark.slow)],  # 0: pieces as they are
    ids=["small", "as it is"],
)
def test_a_log_four_times_the_memory_allowed_is_iterated_within_it(tmp_path, users, pieces):
    journeys = wide_log(tmp_path / "j", users)
    size = sum(file.stat().st_size for file in (journeys.path / "data").iterdir())
    command = [sys.executable, "-c", TRAINING, str(journeys.path), str(size // 4), str(pieces)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
    assert sorted(p.name for p in journeys.path.iterdir()) == ["data", "journeys.json"]


@pytest.fixture(scope="module")
def criteo(shared_data, tmp_path_factory):
    log = shared_data / "criteo_attribution" / "criteo_sequence.parquet"
    return prepare(log, CRITEO, tmp_path_factory.mktemp("criteo") / "j")


def test_the_criteo_sample_is_counted_and_iterated_in_moments(criteo):
    """Limits in processor time, about ten times what it takes: they find what has become slow, not a busy machine."""

    def quickest(work, tries=3):
        took = []
        for _ in range(tries):
            start = time.process_time()
            work()
            took.append(time.process_time() - start)
        return min(took)

    found = split(criteo, "users")
    so_far = running(criteo, default_statistics(criteo.schema))
    transforms = Transforms.fit(criteo, found.rows("train"))
    train = view(criteo, found, "train", so_far=so_far)
    assert quickest(lambda: running(criteo, default_statistics(criteo.schema))) < 1.0  # .06 s
    assert quickest(lambda: [len(b) for b in train.batches(64, 0)]) < 0.5  # .04 s
    assert quickest(lambda: [transforms.encode(b.history) for b in train.batches(64, 0)]) < 1.0  # .1 s


def test_a_long_journey_costs_no_more_than_many_short_ones(tmp_path):
    """One user of 60,000 steps: no step is read with all of its past."""
    journeys = plain_log(tmp_path / "j", [60_000], time=np.arange(60_000.0))
    found = running(journeys, default_statistics(journeys.schema))
    assert found["steps"].ravel().tolist() == list(range(60_000))
    steps = view(journeys, split(journeys, "temporal"), "train", 20, so_far=found)
    assert max(batch.rows.shape[1] for batch in steps.batches(512)) == 20
    assert sum(int(batch.label.sum()) for batch in steps.batches(512)) == 48_000
