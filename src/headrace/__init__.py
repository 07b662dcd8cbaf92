"""headrace: from logs of what was shown to policies whose worth is known before they go live.

    import headrace

    journeys = headrace.prepare("log.parquet", "log.schema.toml", "journeys")
    split = journeys.split("honest", seed=0)
    model = headrace.MTORL().fit(journeys, split, "runs/first")
    scores = headrace.measure(model, journeys, split)
    chosen = headrace.recommend(model, journeys)
    worth = headrace.ope.estimate(model.policy(), journeys, split.rows("test"))

Names are imported when they are first used, so that `import headrace` is quick. None is that of a room (a package) but
`ope`, which is the room itself and has names of its own.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "LogSchema": "headrace.journeys.schema",
    "Feature": "headrace.journeys.schema",
    "Gain": "headrace.journeys.schema",
    "Cost": "headrace.journeys.schema",
    "Journeys": "headrace.journeys.store",
    "Memory": "headrace.journeys.memory",
    "audit": "headrace.journeys.audit",
    "inspect": "headrace.journeys.inspect",
    "prepare": "headrace.journeys.prepare",
    "MTORL": "headrace.channel.mtorl",
    "MTORLConfig": "headrace.channel.mtorl",
    "DIN": "headrace.channel.din",
    "DINConfig": "headrace.channel.din",
    "RMTL": "headrace.predict.rmtl",
    "RMTLConfig": "headrace.predict.rmtl",
    "exposures": "headrace.journeys.exposures",
    "export": "headrace.journeys.export",
    "BCQ": "headrace.fuse.methods",
    "measure_predictions": "headrace.predict.scoring:evaluate",
    "measure": "headrace.channel.scoring:evaluate",
    "recommend": "headrace.channel.recommend",
    "embed": "headrace.channel.embed",
    "Run": "headrace.learn.run",
    "Scenario": "headrace.simulate.scenario",
    "simulate_log": "headrace.simulate.log:simulate",
}
__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "ope":
        return importlib.import_module("headrace.ope")
    if name not in _NAMES:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    module, _, attribute = _NAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted([*__all__, "ope"])
