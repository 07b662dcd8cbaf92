"""Five folds as one table: each step tested once, by the method that was fitted without its user."""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.evaluate.metrics import Predicted, Steps


def pooled(
    folds: Sequence[tuple[Steps, Mapping[str, Predicted | str]]],
) -> tuple[Steps, dict[str, Predicted | str]]:
    """The steps of all folds in a row, and each method's predictions of them, for `results.score`.

    A method refused in one fold is refused in all. Raises ValueError where folds differ in methods, or share a step.
    """
    steps, methods = folds[0]
    if any(set(p) != set(methods) or (s.kind, s.classes) != (steps.kind, steps.classes) for s, p in folds):
        raise ValueError("folds differ in their methods or in their target")
    together = {}
    for name in ("labels", "users", "index", "rows", "sessions"):
        parts = [getattr(s, name) for s, _ in folds]
        together[name] = None if any(p is None for p in parts) else np.concatenate(parts)
    found: dict[str, Predicted | str] = {}
    for method in methods:
        parts = [p[method] for _, p in folds]
        refused = next((p for p in parts if isinstance(p, str)), None)
        found[method] = _joined([p for p in parts if isinstance(p, Predicted)]) if refused is None else refused
    labels = together.pop("labels")
    assert labels is not None
    return Steps(labels, steps.kind, steps.classes, **together, repeated=steps.repeated), found


def _joined(parts: Sequence[Predicted]) -> Predicted:
    choices = [p.choice for p in parts if p.choice is not None]
    rows = [p.rows for p in parts if p.rows is not None]
    return Predicted(
        np.concatenate([p.values for p in parts]),
        np.concatenate(choices) if len(choices) == len(parts) else None,
        np.concatenate(rows) if len(rows) == len(parts) else None,
    )
