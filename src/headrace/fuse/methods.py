"""The fusion methods by name."""

from typing import Any

from headrace.errors import unknown
from headrace.fuse import bcq, cql_sac, iql, td3, td3_bc, unified, uwac
from headrace.fuse.bo import BO
from headrace.fuse.es import ES
from headrace.fuse.exploration import Kind
from headrace.fuse.learner import Learner
from headrace.fuse.method import FuseMethod


def _method(name: str, module: Any, config: Any, learner: type[Learner]) -> type[FuseMethod]:
    parts = {"name": name, "presets": module.PRESETS, "config_type": config, "learner_type": learner}
    return type(learner.__name__.removesuffix("Learner"), (FuseMethod,), parts | {"__doc__": module.__doc__})


BCQ = _method("bcq", bcq, bcq.BCQConfig, bcq.BCQLearner)
METHODS: dict[str, type[FuseMethod]] = {
    "bcq": BCQ,
    "td3": _method("td3", td3, td3.TD3Config, td3.TD3Learner),
    "uwac": _method("uwac", uwac, uwac.UWACConfig, uwac.UWACLearner),
    "cql-sac": _method("cql-sac", cql_sac, cql_sac.CQLConfig, cql_sac.CQLLearner),
    "iql": _method("iql", iql, iql.IQLConfig, iql.IQLLearner),
    "td3-bc": _method("td3-bc", td3_bc, td3_bc.TD3BCConfig, td3_bc.TD3BCLearner),
    "unified": _method("unified", unified, unified.UnifiedConfig, unified.UnifiedLearner),
    "bo": BO,
    "es": ES,
}

OF_BCQ: dict[str, dict[str, Any]] = {  # rows of table 1 and what they change of it
    "bcq-time": {"emphasis": "time"},
    "bcq-integrity": {"emphasis": "integrity"},
    "bcq-interaction": {"emphasis": "interaction"},
    "bcq-re": {},
    "bcq-dwell": {"reward_weights": {"dwell_s": 1.0}},  # what Bayesian optimisation maximises, a control
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: ("bcq", changes) for name, changes in OF_BCQ.items()}
VARIANTS |= {name: (name, {}) for name in METHODS}
LOG_OF: dict[str, Kind] = {"bcq-re": "random", "unified": "bounded"}  # the exploration that a row learns from
COMMON: Kind = "mixed"  # that of all others, and of the sessions that every row is valued on


def method_of(name: str) -> type[FuseMethod]:
    """The class of a method; raises with the nearest name where there is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def load(run: Any) -> FuseMethod:
    """The fitted method that a run holds."""
    return method_of(run.config["method"]).load(run)
