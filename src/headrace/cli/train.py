"""headrace train: fit a method on journeys and leave a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG, RUN


@dataclass(frozen=True, slots=True)
class Train:
    """Fit a method on journeys and leave a run: weights, transforms, config, metrics, manifest."""

    method: tyro.conf.Positional[str]
    """channels: mtorl | ag, bc, din, discrete-cql, discrete-iql, dt, gru4rec, mirec, odt, r-bcq, sasrec, star,
    wide-deep; predictions: rmtl; fusion: bcq (BatchRL-MTF) | td3, uwac, cql-sac, iql, td3-bc, unified, bo,
    es"""
    data: Annotated[Path, LOG]
    """A journeys folder, or a raw log of a known layout (its journeys are then kept as OUT-journeys)."""
    out: Path
    """The run's new folder."""
    from_: Annotated[Path | None, RUN, QUIET, tyro.conf.arg(name="from", metavar="RUN")] = None
    """A run of mtorl to go on from: learns what came since, earlier steps of --data being the past; --set then changes
    forget, learning_rate, epochs, pull and rehearse."""
    protocol: Annotated[str | None, QUIET] = None
    """honest | users | temporal | time | paper; default: honest (fusion: time, 9:1), or that of --from."""
    fold: Annotated[int | None, QUIET] = None
    """0 to 4: one of five folds over the users (honest, users); none of them without it."""
    preset: str = "default"
    """default | tiny | paper | quick (fusion) | a TOML file of config fields"""
    seed: int = 0
    """Of the split, the weights and the order of batches; with --from of the order and of the past that is drawn."""
    reward: Annotated[str | None, QUIET] = None
    """A gain; gains with weights (click:1,sale:10); penalised (less s times cost); multi, all binary gains alike;
    onehot, their combinations as classes of one softmax; default: the first gain known in time."""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of the method's config, over the preset's; headrace fields METHOD lists them."""
    resume: Annotated[bool, QUIET] = False
    """Go on with a run that was stopped, to the same bits."""
    schema: Annotated[str | None, QUIET] = None
    """Of --data where that is a raw log: a layout's name or a TOML file."""
    track: Annotated[bool, QUIET] = False
    """Write tensorboard files too."""

    def execute(self) -> None:
        from headrace.cli.rooms import method_of, room_of

        room = room_of(self.method)  # a mistake that is told before torch is imported
        from headrace.cli.console import out
        from headrace.cli.fitting import audited, cut, foretold, provenance, reward_changes, settings
        from headrace.cli.settings import begin_or_resume, configure, open_items, open_journeys
        from headrace.errors import UserError, unknown
        from headrace.journeys.splits import PROTOCOLS
        from headrace.learn.run import Run
        from headrace.report.summary import summarise

        if self.from_ is not None:
            self.go_on(self.from_)
            return
        kind = method_of(self.method)
        if self.reward is not None and room == "predict":
            raise UserError(
                f"--reward {self.reward}: {self.method} predicts tasks; name them by  --set tasks=NAME=GAIN,..."
            )
        protocol = self.protocol or ("time" if room == "fuse" else "honest")
        changes = (*self.set, f"seed={self.seed}")
        configure(self.method, kind.config_type, kind.presets, self.preset, changes)  # mistakes before any work
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
        begin_or_resume(self.out, self.resume)
        keep = self.out.with_name(f"{self.out.name}-journeys")
        opened = open_items if room == "predict" else open_journeys
        journeys = opened(self.data, self.schema, keep, self.resume)
        changes = (*reward_changes(self.reward, journeys.schema), *changes)
        config = configure(self.method, kind.config_type, kind.presets, self.preset, changes)
        split = cut(self.method, journeys, protocol, self.seed, self.fold)
        audited(journeys, split)
        method = kind(config)
        method.check(journeys, split)
        for line in foretold(method, journeys, split):
            out.print(line, soft_wrap=True)
        there = self.out.exists()
        run = Run.create(
            self.out,
            settings(method.settings(), journeys, split),
            self.resume,
            self.track,
            **provenance(journeys, split),
        )
        try:
            method.fit(journeys, split, run)
        except UserError:
            if not there:
                run.discard()
            raise
        run.write_json("audit.json", [f.to_dict() for f in audited(journeys, split, method.transforms)])
        run.write_json("summary.json", summarise(journeys))
        run.seal()
        stage = method.stage
        if stage is not None:
            out.print(f"{self.method}: {stage.epochs} epochs, {stage.steps} steps, best epoch {stage.best_epoch}")
        out.print(f"{self.out}: the run; measure it with  headrace evaluate {self.out}")

    def go_on(self, parent_path: Path) -> None:
        """Learn what came since another run was fitted."""
        from headrace.channel.incremental import PRESETS, Incremental, IncrementalConfig, Parent
        from headrace.channel.methods import method_of
        from headrace.cli.console import out
        from headrace.cli.fitting import audited, provenance, settings
        from headrace.cli.measuring import open_run, own_schema
        from headrace.cli.settings import begin_or_resume, configure, open_journeys
        from headrace.errors import UserError
        from headrace.journeys.transforms import Transforms
        from headrace.learn.run import Run
        from headrace.report.summary import summarise

        config = configure(self.method, IncrementalConfig, PRESETS, self.preset, (*self.set, f"seed={self.seed}"))
        method_of(self.method)
        parent = Parent.of(open_run(parent_path))
        kept = {"protocol": self.protocol, "fold": self.fold, "reward": self.reward}
        for name, given in kept.items():
            if given not in (None, parent.run.config.get(name)):
                raise UserError(
                    f"--{name} {given}: a run that goes on keeps its parent's; leave --{name} out, or --from"
                )
        if self.method != parent.run.config["method"]:
            raise UserError(f"--from {parent_path}: a run of {parent.run.config['method']}, not of {self.method}")
        begin_or_resume(self.out, self.resume)
        keep = self.out.with_name(f"{self.out.name}-journeys")
        given_schema = self.schema or (None if (self.data / "journeys.json").is_file() else own_schema(parent.run))
        journeys = open_journeys(self.data, given_schema, keep, self.resume)
        fitting = Incremental(parent, config)
        before = fitting.method.transforms
        assert isinstance(before, Transforms)
        fitting.check(journeys)
        split = parent.split(journeys)
        audited(journeys, split)
        run = Run.create(
            self.out,
            settings(fitting.settings(), journeys, split),
            self.resume,
            self.track,
            **provenance(journeys, split),
            parent={"run": str(parent_path.resolve()), "model": parent.model},
        )
        method = fitting.fit(journeys, split, run)
        run.write_json("audit.json", [f.to_dict() for f in audited(journeys, split, method.transforms, before)])
        run.write_json("summary.json", summarise(journeys))
        run.seal()
        told = run.read_json("stream.json")
        forgot = ", ".join(f"{name} {value:.4f}" for name, value in told["forgotten"].items())
        out.print(
            f"{self.method}: {told['share']:.0%} of the way to the tuned weights, {sum(told['new_ids'].values())} new "
            f"ids; forgotten along the chain: {forgot} of {told['allowed']:g} allowed"
        )
        if told["share"] == 0:
            out.print(f"{self.method}: nothing tuned was better and within the bound, so the parent's weights stay")
        out.print(f"{self.out}: the run; measure it with  headrace evaluate {self.out}")
