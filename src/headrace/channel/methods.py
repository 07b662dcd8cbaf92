"""The channel methods by name."""

from pathlib import Path
from typing import Any, Literal, Protocol

from headrace.channel.ag import AG
from headrace.channel.bc import BC
from headrace.channel.cql import CQL
from headrace.channel.din import DIN
from headrace.channel.dt import DT
from headrace.channel.gru4rec import GRU4Rec
from headrace.channel.iql import IQL
from headrace.channel.mirec import MIREC
from headrace.channel.mtorl import MTORL
from headrace.channel.odt import ODT
from headrace.channel.policies import ScorePolicy
from headrace.channel.predictions import Predictions
from headrace.channel.rbcq import RBCQ
from headrace.channel.sasrec import SASRec
from headrace.channel.star import STAR
from headrace.channel.wide_deep import WideDeep
from headrace.errors import unknown
from headrace.journeys.seams import Bools, History
from headrace.journeys.splits import Split
from headrace.journeys.statistics import Statistic
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import WHOLE, View
from headrace.learn.loop import StageResult
from headrace.learn.run import Run
from headrace.learn.space import Space


class Method(Protocol):
    """What the commands see of a channel method."""

    name: str
    presets: dict[str, dict[str, Any]]
    space: Space  # what tuning searches
    config_type: Any  # a frozen dataclass
    predicts_gains: bool  # False: it has no reward heads
    chooses_by: Literal["value", "policy"]
    epochs_tell: bool  # whether the loss `policy` of an epoch tells of the log loss of the policy
    transforms: Transforms | None
    stage: StageResult | None

    def __init__(self, config: Any = None): ...

    @property
    def length(self) -> int | None: ...

    @property
    def penalty(self) -> float: ...

    @property
    def reward_weights(self) -> dict[str, float]: ...

    @property
    def reward_gains(self) -> tuple[str, ...]: ...

    def check(self, journeys: Journeys, split: Split | None = None) -> object: ...

    def settings(self) -> dict[str, Any]: ...

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> "Method": ...

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions: ...

    def predict_next(self, journeys: Journeys) -> Predictions: ...

    def foresee(self, histories: History) -> Predictions: ...

    def policy(self, stochastic: bool = True) -> ScorePolicy: ...

    @classmethod
    def load(cls, run: Run) -> "Method": ...


METHODS: dict[str, type[Method]] = {
    AG.name: AG,
    BC.name: BC,
    DIN.name: DIN,
    CQL.name: CQL,
    IQL.name: IQL,
    DT.name: DT,
    GRU4Rec.name: GRU4Rec,
    MIREC.name: MIREC,
    MTORL.name: MTORL,
    ODT.name: ODT,
    RBCQ.name: RBCQ,
    SASRec.name: SASRec,
    STAR.name: STAR,
    WideDeep.name: WideDeep,
}


def history_of(method: Method) -> tuple[int, tuple[Statistic, ...]]:
    """How many steps of each user's past a fitted method reads, and which running statistics."""
    assert method.transforms is not None
    return method.length or WHOLE, method.transforms.statistics


def method_of(name: str) -> type[Method]:
    """The class of a method; raises with the nearest name where there is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def load(run: Any) -> Method:
    """The fitted method that a run holds."""
    return method_of(run.config["method"]).load(run)
