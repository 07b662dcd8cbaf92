"""The strongest floor with a tuning budget of its own, so that a tuned method does not beat one that was not tuned."""

from collections.abc import Callable

from headrace.evaluate.floor_models import LIGHTGBM_SPACE
from headrace.evaluate.floors import Floor, lightgbm_of
from headrace.evaluate.targets import Target
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.loop import derive_seed
from headrace.learn.space import Changes, propose


def tune_lightgbm(
    journeys: Journeys,
    split: Split,
    target: Target,
    trials: int = 30,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Floor:
    """Boosted trees of LightGBM with the parameters of the smallest loss on the split's validation steps.

    The search is that of `tune`: the first trial is the floor as it stands in every table, each later one is proposed
    after all before it. The test part is not read. `progress` is told how many trials are done, and of how many.
    """
    fit = lightgbm_of(journeys, split, target, seed)
    best, least = fit({})
    seen: list[tuple[Changes, float]] = [({}, least)]
    for number in range(1, trials):
        if progress is not None:
            progress(number, trials)
        changes = propose(LIGHTGBM_SPACE, seen, derive_seed(seed, "trial", number))
        floor, loss = fit(changes)
        seen.append((changes, loss))
        if loss < least:
            best, least = floor, loss
    return best
