"""Off-policy evaluation: what a policy is worth, from the log of another one; and when the log cannot tell.

    found = headrace.ope.estimate(policy, journeys)

Names are imported when they are first used. None is that of a file of this room.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.ope.policies import named
    from headrace.ope.valuation import estimate, reward_of, value

_NAMES = {
    "estimate": "headrace.ope.valuation",
    "value": "headrace.ope.valuation",
    "reward_of": "headrace.ope.valuation",
    "named": "headrace.ope.policies",
}
__all__ = ["estimate", "named", "reward_of", "value"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'headrace.ope' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
