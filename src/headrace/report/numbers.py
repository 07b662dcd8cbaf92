"""How many digits a figure deserves, and its text."""

import math
import statistics
from collections.abc import Iterable


def decimals(widths: Iterable[float | None], values: Iterable[float | None] = ()) -> int:
    """Decimals for one column: the typical interval is at least eight of the last digit wide; 4 at most.

    Without any interval the values' size decides: 3 decimals below 10, none from 1,000 on.

    >>> decimals([0.012, 0.014]), decimals([300.0]), decimals([None], [0.5]), decimals([], [12345.0])
    (3, 0, 3, 0)
    """
    known = [w for w in widths if w is not None and math.isfinite(w) and w > 0]
    if known:
        return min(4, max(0, math.ceil(-math.log10(statistics.median_low(known) / 8))))
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v)]
    size = max(sizes, default=0.0)
    return 3 if size < 10 else 1 if size < 1000 else 0


def show(value: float | None, digits: int, sign: bool = False) -> str:
    """The value's text; "-" for none, and never a negative nought.

    >>> show(-0.00001, 3), show(1234.5, 1), show(0.0042, 3, sign=True), show(None, 3)
    ('0.000', '1,234.5', '+0.004', '-')
    """
    if value is None:
        return "-"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.lstrip("+-") if text.strip("+-0.,") == "" else text


def width(low: float | None, high: float | None) -> float | None:
    """The interval's width, None where there is no interval."""
    return None if low is None or high is None else high - low
