"""headrace train: fit a method on journeys and leave a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from headrace.channel.methods import method_of
from headrace.cli.console import out
from headrace.cli.settings import configure, open_journeys
from headrace.errors import Refused, UserError
from headrace.journeys.audit import Finding, audit, has_leak
from headrace.journeys.schema import LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.report.summary import summarise


@dataclass(frozen=True, slots=True)
class Train:
    """Fit a method on journeys and leave a run: weights, transforms, config, metrics, manifest."""

    method: tyro.conf.Positional[str]
    """mtorl"""
    data: Path
    """A journeys folder, or a raw log of a known layout."""
    out: Path
    """The run's new folder."""
    protocol: str = "honest"
    """honest | users | temporal | time | paper"""
    fold: int | None = None
    """0 to 4: one of five folds over the users (honest, users)."""
    preset: str = "default"
    """default | paper | tiny | a TOML file of config fields"""
    seed: int = 0
    """Of the split, the weights and the order of batches."""
    reward: str | None = None
    """A gain; penalised (gain less s times cost); or multi, all gains that are known in time."""
    set: tuple[str, ...] = ()
    """key=value ... of the method's config."""
    resume: bool = False
    """Go on with a run that was stopped, to the same bits."""
    schema: str | None = None
    """Of --data where that is a raw log."""
    track: Annotated[bool, tyro.conf.arg(help="Write tensorboard files too.")] = False

    def run(self) -> None:
        kind = method_of(self.method)
        journeys = open_journeys(self.data, self.schema)
        changes = (*reward_changes(self.reward, journeys.schema), *self.set, f"seed={self.seed}")
        config = configure(self.method, kind.config_type, kind.presets, self.preset, changes)
        split = journeys.split(self.protocol, self.seed, self.fold)
        findings = audited(journeys, split)
        method = kind(config)
        run = Run.create(
            self.out,
            settings(method.settings(), journeys, split),
            self.resume,
            self.track,
            **provenance(journeys, split),
        )
        method.fit(journeys, split, run)
        run.write_json("audit.json", [f.to_dict() for f in findings])
        run.write_json("summary.json", summarise(journeys))
        run.seal()
        stage = method.stage
        if stage is not None:
            out.print(f"{self.method}: {stage.epochs} epochs, {stage.steps} steps, best epoch {stage.best_epoch}")
        out.print(f"{self.out}: the run; measure it with  headrace evaluate {self.out}")


def audited(journeys: Journeys, split: Split) -> list[Finding]:
    """The audit's findings; a leak is refused, but under `paper`, which exists to show it."""
    findings = audit(journeys, split)
    if has_leak(findings) and split.protocol != "paper":
        worst = next(f for f in findings if f.verdict == "leak")
        raise Refused(f"{journeys.path}: {worst.check}: {worst.detail}; see  headrace data audit {journeys.path}")
    return findings


def settings(method: dict[str, Any], journeys: Journeys, split: Split) -> dict[str, Any]:
    """What config.json of a run holds: the method, its config and the split."""
    return {
        **method,
        "dataset": journeys.schema.name,
        "protocol": split.protocol,
        "split_seed": split.seed,
        "fold": split.fold,
    }


def provenance(journeys: Journeys, split: Split) -> dict[str, Any]:
    """What the manifest tells of the data."""
    return {
        "data": str(journeys.path.resolve()),
        "data_fingerprint": journeys.fingerprint,
        "split_fingerprint": split.fingerprint,
    }


def reward_changes(reward: str | None, schema: LogSchema) -> list[str]:
    """--reward as changes of the config."""
    if reward is None:
        return []
    known = [g.name for g in schema.gains if g.known != "never" and g.kind != "classes"]
    if reward == "penalised":
        if schema.cost is None:
            raise UserError(f"--reward penalised: schema {schema.name} has no cost column; choose a gain")
        return ["reward_target=penalised"]
    if reward == "multi":
        if not known:
            raise UserError(f"--reward multi: schema {schema.name} has no gain that is known in time; name one")
        return ["reward_weights=" + ",".join(f"{g}:1" for g in known)]
    schema.gain(reward)
    return [f"reward_weights={reward}:1"]
