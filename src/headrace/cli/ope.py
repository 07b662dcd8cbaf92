"""headrace ope: what policies are worth by a log of another one, or why the log cannot tell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG


@dataclass(frozen=True, slots=True)
class Ope:
    """Value policies by a log, beside the log itself and each other; exit code 3 where the log cannot tell."""

    policies: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="POLICY_OR_RUN ...", help_behavior_hint="")]
    ]
    """uniform | logged | constant:CHANNEL | past-rate | trees | a folder that train left"""
    data: Annotated[Path, LOG]
    """Journeys, or a raw log of a known layout (or of the run's schema)."""
    out: Annotated[Path | None, QUIET] = None
    """A new folder for results.json, ope.json and the page; without it the answer is printed alone."""
    gain: Annotated[str | None, QUIET] = None
    """A gain, or gains with weights (click:1,conversion:10); default: the run's reward, or the log's first gain."""
    penalty: Annotated[float | None, QUIET] = None
    """Take this times the cost off the gain; default: the run's own where it learnt a penalised reward, else none."""
    propensity: Annotated[str | None, QUIET] = None
    """logged | random (drawn by lot: the channel's share) | estimated; default: logged where there are any."""
    select: Annotated[float | None, QUIET] = None
    """Advertise at this share of the steps, those of the largest expected gain; default: at all of them."""
    by: str = "own"
    """How a run chooses its channel: value (largest expected gain) | policy (drawn as learnt) | greedy (its mode) |
    own (value; greedy of mirec and discrete-iql)"""
    journeys: bool = False
    """Value whole journeys too: what the choices change at later steps (pdis, wpdis, lstdq, sdr)."""
    networks: bool = False
    """With --journeys: fit Q by networks too, plainly and conservatively (fqe, cfqe); minutes a policy."""
    subgroup: Annotated[str | None, QUIET] = None
    """A feature known before the decision: each of its values is also valued by itself."""
    estimators: Annotated[tuple[str, ...] | None, QUIET, tyro.conf.arg(metavar="NAME ...")] = None
    """ips | clipped | snips | dm | dr | sndr | switch-dr; default: all."""
    protocol: Annotated[str | None, QUIET] = None
    """honest | users | temporal | time: the split to learn and be valued by; default: the run's, else honest"""
    part: str = "test"
    """test | validation: what policies that learn, or that select, are valued on"""
    seed: int = 0
    """Of the split, the models and the resamples."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.settings import refuse_run
        from headrace.cli.valuing import answer, leave
        from headrace.cli.valuing_question import Asked
        from headrace.errors import Refused
        from headrace.report.value_brief import print_values
        from headrace.report.value_words import refusals

        if self.out is not None:
            refuse_run(self.out)
        asked = Asked.of(self)
        with progress("valuing") as tell:
            found = answer(asked, tell)
        if self.out is not None:
            leave(found, asked, self.out)
        print_values(found.records, found.account, out)
        if self.out is not None:
            out.print(f"{self.out / 'report.html'}: the same as a page, with weights, overlap and the gate")
        reasons = refusals(found.records, found.account)
        if reasons:
            raise Refused("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
