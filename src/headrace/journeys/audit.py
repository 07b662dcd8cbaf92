"""The leak audit: what stands on both sides of a split, and what an input knows too early.

Each check ends in one verdict: "clean", "note" (worth knowing, or an overlap that the protocol declares) or "leak".
A leak is named with rows and columns; the command exits 3 on one.

N steps, W windows.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.knots import with_knots
from headrace.journeys.onward import of_training_users
from headrace.journeys.seams import Floats
from headrace.journeys.splits import PARTS, Split, session_starts
from headrace.journeys.store import Array, Journeys, ragged_rows
from headrace.journeys.transforms import Categories, Transforms, stored_as_numbers

Verdict = Literal["clean", "note", "leak"]

# A column is taken to be stamped back from the future where a rare event repeats on the very next step this often and
# this much more often than after a step without it. Measured: Criteo's conversion and attribution .59-.61 and 24-33
# times; KuaiRand's clicks, likes, follows and hates, which are outcomes of their own step, at most .55 at 2 times, or
# .23 at 17 times. Fewer events than SUPPORT say nothing.
REPEATS, LIFT, SUPPORT = 0.4, 8.0, 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome, in words, with the figures and the first rows behind it."""

    check: str
    verdict: Verdict
    detail: str
    share: float | None = None
    rows: tuple[int, ...] = ()
    columns: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "verdict": self.verdict,
            "detail": self.detail,
            "share": self.share,
            "rows": list(self.rows),
            "columns": list(self.columns),
        }


def audit(
    journeys: Journeys, split: Split, transforms: Transforms | None = None, parent: Transforms | None = None
) -> list[Finding]:
    """All checks of a split; `transforms` are a run's, to see that they come from its training steps alone.

    Where the run went on from another, `parent` are that one's.
    """
    findings = [
        _shared_rows(split),
        _shared_windows(split),
        _shared_users(journeys, split),
        _time_overlap(journeys, split),
        *_twins(journeys, split),
        *_look_ahead(journeys),
    ]
    if transforms is not None:
        findings.append(_transforms(journeys, split, transforms, parent))
    return findings


def has_leak(findings: list[Finding]) -> bool:
    """Whether any finding is an undeclared leak."""
    return any(f.verdict == "leak" for f in findings)


def _shared_rows(split: Split) -> Finding:
    if split.windows is None:
        train, test = split.parts["train"], split.parts["test"] | split.parts["validation"]
        both = np.flatnonzero(train & test)
        share = len(both) / max(int(test.sum()), 1)
    else:
        length = np.full(len(split.windows["test"]), split.window_length)
        labelled = ragged_rows(split.windows["test"], length)  # a step counts as often as it is labelled
        both = labelled[split.parts["train"][labelled]]
        share = len(both) / max(len(labelled), 1)
    if not len(both):
        return Finding("duplicate rows", "clean", "no labelled test or validation step is a training step", 0.0)
    detail = f"{share:.0%} of the labelled test steps ({len(both):,}) are themselves training steps"
    return Finding("duplicate rows", "leak", detail, share, _first(np.unique(both)))


def _shared_windows(split: Split) -> Finding:
    if split.windows is None:
        return Finding("duplicate windows", "clean", "parts are made of steps, not of sampled windows")
    test, train = split.windows["test"], split.windows["train"]
    same = np.isin(test, train)
    share = float(same.mean())
    if not same.any():
        return Finding("duplicate windows", "clean", "no test window is a training window", 0.0)
    detail = f"{share:.0%} of the test windows are identical to a training window"
    return Finding("duplicate windows", "leak", detail, share, _first(test[same]))


def _shared_users(journeys: Journeys, split: Split) -> Finding:
    users = {part: np.unique(journeys.user_of_step[split.rows(part)]) for part in PARTS}
    held_out = np.union1d(users["validation"], users["test"])
    shared = np.intersect1d(users["train"], held_out)
    share = len(shared) / max(len(held_out), 1)
    if not len(shared):
        return Finding("shared users", "clean", "no user has labelled steps in train and in test or validation", 0.0)
    declared = "users" in split.declared
    detail = f"{share:.0%} of the test and validation users have training steps too"
    rows = _first(journeys.offsets[shared])
    if declared:
        detail += f" (protocol {split.protocol} allows it)"
    return Finding("shared users", "note" if declared else "leak", detail, share, rows)


def _time_overlap(journeys: Journeys, split: Split) -> Finding:
    if journeys.time is None:
        return Finding("time overlap", "clean", "the log has no clock; order within a user is kept")
    by_session = split.protocol == "time"  # whose cut goes by the start of sessions, so that none straddles
    time = session_starts(journeys) if by_session else journeys.time
    last = time[split.parts["train"]].max()
    held_out = split.parts["validation"] | split.parts["test"]
    early = np.flatnonzero(held_out & (time <= last))
    share = len(early) / max(int(held_out.sum()), 1)
    if not len(early):
        what = "session of a training step began" if by_session else "training step lies"
        return Finding("time overlap", "clean", f"every {what} before every test and validation one", 0.0)
    declared = "time" in split.declared
    detail = f"{share:.0%} of the test and validation steps lie before the last training step"
    if declared:
        detail += f" (protocol {split.protocol} allows it)"
    return Finding("time overlap", "note" if declared else "leak", detail, share, _first(early))


def _twins(journeys: Journeys, split: Split) -> list[Finding]:
    """Steps of equal content: across parts, and a step whose twin stands in its own history."""
    content = content_hash(journeys)
    test = split.parts["test"] | split.parts["validation"]
    only_train = split.parts["train"] & ~test  # the same row on both sides is the first check's finding
    across = np.flatnonzero(test & ~split.parts["train"] & np.isin(content, content[only_train]))
    share = len(across) / max(int(test.sum()), 1)
    clocked = journeys.time is not None
    if not len(across):
        found = [
            Finding("equal rows across parts", "clean", "no test step equals a training step in every column", 0.0)
        ]
    else:
        detail = f"{len(across):,} test or validation steps equal a training step of the same user in every column"
        leak = clocked  # without a clock equal rows of one user may be different events
        if not leak:
            detail += "; the log has no clock, so they may be different events"
        found = [Finding("equal rows across parts", "leak" if leak else "note", detail, share, _first(across))]
    _, first = np.unique(content, return_index=True)
    is_first = np.zeros(journeys.n_steps, dtype=np.bool_)
    is_first[first] = True
    repeated = np.flatnonzero(~is_first)
    share = len(repeated) / max(journeys.n_steps, 1)
    if not len(repeated):
        return [*found, Finding("twins in the history", "clean", "no step equals an earlier step of its user", 0.0)]
    detail = f"{len(repeated):,} steps ({share:.1%}) equal an earlier step of their user in every column"
    detail += ", time included: a log line written twice" if clocked else "; without a clock they may be real repeats"
    verdict: Verdict = "leak" if clocked and share >= 0.05 else "note"
    return [*found, Finding("twins in the history", verdict, detail, share, _first(repeated))]


def _look_ahead(journeys: Journeys) -> list[Finding]:
    """Columns that an input of the next step would use though they were stamped back from the future."""
    schema = journeys.schema
    found = []
    labels = [g.name for g in schema.gains if g.known == "never"]
    if labels:
        detail = f"{', '.join(labels)}: labels only, never an input"
        found.append(Finding("look-ahead columns", "note", detail, columns=tuple(labels)))
    columns = [(g.name, f"gain/{g.name}") for g in schema.gains if g.known == "after"]
    columns += [(f.name, f"feature/{f.name}") for f in schema.features if f.level == "step"]
    stamped = []
    for name, column in columns:
        for gain in (g.name for g in schema.gains if g.kind == "binary"):
            repeats, otherwise, support = repetition(journeys, column, gain)
            if support >= SUPPORT and repeats >= REPEATS and repeats >= LIFT * otherwise:
                stamped.append((name, gain, repeats, otherwise))
                break
    for name, gain, repeats, otherwise in stamped:
        detail = (
            f"{name} is an input, and {gain} follows on the next step with {repeats:.2f} against {otherwise:.3f} "
            f"otherwise: it looks stamped back from a later event; declare it known = 'never'"
        )
        found.append(Finding("look-ahead columns", "leak", detail, columns=(name, gain)))
    if not found:
        found.append(Finding("look-ahead columns", "clean", "no input repeats itself as a stamped-back outcome does"))
    return found


def repetition(journeys: Journeys, column: str, gain: str) -> tuple[float, float, int]:
    """P(gain at t | column at t-1 is not its usual value), P(gain at t | it is), and the number of the former."""
    values = np.nan_to_num(journeys.column(column).astype(np.float64), nan=-1.0)
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) < 2 or counts.max() < 0.5 * len(values):
        return 0.0, 0.0, 0  # no usual value: not a rare event
    event = values != unique[counts.argmax()]
    outcome = np.nan_to_num(np.asarray(journeys.gain(gain), dtype=np.float64))
    follows = np.ones(len(values), dtype=np.bool_)
    follows[journeys.offsets[:-1][np.diff(journeys.offsets) > 0]] = False
    rows = np.flatnonzero(follows)
    after_event = event[rows - 1]
    if not after_event.any() or after_event.all():
        return 0.0, 0.0, 0
    return float(outcome[rows][after_event].mean()), float(outcome[rows][~after_event].mean()), int(after_event.sum())


def _transforms(journeys: Journeys, split: Split, transforms: Transforms, parent: Transforms | None) -> Finding:
    if parent is None:
        fitted = refit(journeys, split.rows("train"), transforms)
        again = with_knots(fitted, journeys, split.parts["train"], transforms.bins, transforms.context_bins)
    else:
        again = parent.extend(journeys, np.flatnonzero(of_training_users(journeys, split)))
    different = tuple(sorted(_differences(transforms.to_dict(), again.to_dict())))
    if not different and parent is not None:
        return Finding("transforms", "clean", "the parent run's, with ids that come from steps of training users alone")
    if not different:
        return Finding("transforms", "clean", "vocabularies, scales and means are those of the training steps alone")
    detail = f"{', '.join(different[:5])} differ from a fit on the training steps alone"
    return Finding("transforms", "leak", detail, columns=different)


def refit(journeys: Journeys, rows: Array, transforms: Transforms) -> Transforms:
    """The same transforms fitted again on these rows."""
    numbers = stored_as_numbers(journeys)
    as_ids = not numbers or any(name in transforms.vocabularies for name in numbers)
    as_numbers = any(name in transforms.scales for name in numbers)
    categories: Categories = "both" if as_ids and as_numbers else "embedded" if as_ids else "numbers"
    return Transforms.fit(
        journeys,
        rows,
        transforms.reward_weights,
        transforms.penalty,
        transforms.statistics,
        categories,
        transforms.min_count,
    )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    names = []
    for key in a:
        if isinstance(a[key], dict) and key in ("vocabularies", "scales", "means"):
            names += [f"{key}/{k}" for k in a[key] if a[key].get(k) != b[key].get(k)]
        elif a[key] != b[key]:
            names.append(key)
    return names


def content_hash(journeys: Journeys) -> NDArray[np.uint64]:
    """(N,) a 64-bit hash of each step's user and all its columns, those of its candidates too."""
    total = _scramble(journeys.user_of_step.astype(np.uint64))
    lists = [name for name in journeys.column_names if name.startswith("item/")]
    for name in journeys.column_names:
        if name not in ("offsets", "users", "item_offsets", *lists) and not name.startswith("user/"):
            total = _scramble(total ^ _bits(journeys.column(name)))
    if lists:
        offsets = journeys.column("item_offsets")
        place = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], np.diff(offsets))
        item = _scramble(place.astype(np.uint64))
        for name in lists:
            item = _scramble(item ^ _bits(journeys.column(name)))
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(item, dtype=np.uint64)])
        total = _scramble(total ^ (sums[offsets[1:]] - sums[offsets[:-1]]))
    return total


def _bits(values: Array) -> NDArray[np.uint64]:
    """The values as 64 bits each; a missing number is one pattern, whatever its own."""
    if values.dtype.kind != "f":
        return values.astype(np.int64).view(np.uint64)
    numbers: Floats = np.where(np.isnan(values), -1.5, values).astype(np.float64)
    return numbers.view(np.uint64)


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        return x ^ (x >> np.uint64(29))


def _first(rows: Array, count: int = 5) -> tuple[int, ...]:
    return tuple(int(r) for r in rows[:count])
