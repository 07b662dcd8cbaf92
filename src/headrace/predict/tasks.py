"""Tasks: what is predicted of an item, as combinations of a log's gains.

    ctr=is_click                     a gain
    ctcvr=is_click&long_view         all of several
    positive=like|share              any of several
    play=play_s/600                  a continuous gain as its share of 600, cut at 1

n rows, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.statistics import gain_values
from headrace.journeys.store import Journeys

# tasks, and what running statistics are kept for, of the layouts we know
_KUAIRAND = (
    "ctr=is_click,ctcvr=is_click&long_view",
    "user,video_id,author_id,music_id,tag,tab,user+tab,user+tag,user+author_id",
)
SETUPS: dict[str, tuple[str, str | None]] = {
    "kuairand-pure": _KUAIRAND,
    "kuairand-1k": _KUAIRAND,
    "kuairand-random-sample": ("ctr=is_click,ctcvr=is_click&long_view", "user"),
    "criteo-attribution-sample": ("ctr=click,ctcvr=click&conversion", "user"),
    "world-feed": ("ctr=click,ctcvr=click&long_view", "user,item,topic"),
    "criteo-attribution": ("ctr=click,ctcvr=click&conversion", None),
}
EVENTS = ("retailrocket",)  # layouts whose rows are events: that a row is there tells its gain
FURTHER = "like=is_like,follow=is_follow,comment=is_comment,forward=is_forward,profile=is_profile_enter"  # KuaiRand's


@dataclass(frozen=True, slots=True)
class Task:
    """One of K things that are predicted of each item."""

    name: str
    gains: tuple[str, ...]
    how: Literal["all", "any"] = "all"
    most: float | None = None  # a continuous gain's value that counts as 1; None: binary gains

    @property
    def is_binary(self) -> bool:
        return self.most is None

    def labels(self, journeys: Journeys, rows: NDArray[np.int64]) -> Floats:
        """(n,) in [0, 1]; NaN where the log does not tell."""
        values = np.stack([gain_values(journeys.schema.gain(g), journeys.gain(g)[rows]) for g in self.gains])
        if self.most is not None:
            return np.asarray(np.clip(values[0] / self.most, 0.0, 1.0))
        decisive = 0.0 if self.how == "all" else 1.0  # one such gain settles it, whatever the others would tell
        unknown = np.isnan(values).any(axis=0) & ~(values == decisive).any(axis=0)
        held = np.fmin.reduce(values) if self.how == "all" else np.fmax.reduce(values)
        return np.where(unknown, np.nan, held)

    def known(self, journeys: Journeys, rows: Integers) -> Bools:
        """(n,) whether each row tells."""
        return np.asarray(~np.isnan(self.labels(journeys, rows)))

    def implies(self, other: "Task") -> bool:
        """Whether whoever does this has done the other too (a conversion its click).

        >>> click, buy = parse("click=c,buy=c&b")
        >>> buy.implies(click), click.implies(buy)
        (True, False)
        """
        if not (self.is_binary and other.is_binary) or self == other:
            return False
        mine, theirs = set(self.gains), set(other.gains)
        if self.how == "any" and len(mine) > 1:
            return other.how == "any" and mine < theirs
        if other.how == "any" and len(theirs) > 1:
            return bool(mine & theirs)
        return theirs < mine

    def __str__(self) -> str:
        joined = ("&" if self.how == "all" else "|").join(self.gains)
        return f"{self.name}={joined}" + ("" if self.most is None else f"/{self.most:g}")


def parse(text: str) -> tuple[Task, ...]:
    """Tasks as the command line spells them, comma between them.

    >>> [str(t) for t in parse("ctr=click,ctcvr=click&sale,play=play_s/60")]
    ['ctr=click', 'ctcvr=click&sale', 'play=play_s/60']
    """
    found = []
    for part in text.split(","):
        name, equals, of = (word.strip() for word in part.partition("="))
        if not equals or not name or not of or ("&" in of and "|" in of):
            raise UserError(f"tasks: {part!r}, expected NAME=GAIN, NAME=GAIN&GAIN, NAME=GAIN|GAIN or NAME=GAIN/NUMBER")
        of, slash, most = of.partition("/")
        if slash:
            try:
                value = float(most)
            except ValueError:
                value = 0.0
            if not 0 < value < np.inf:
                raise UserError(f"tasks: {part!r}, expected a number above 0 behind the /")
            found.append(Task(name, (of,), "all", value))
        else:
            found.append(Task(name, tuple(of.replace("|", "&").split("&")), "any" if "|" in of else "all"))
    names = [t.name for t in found]
    if len(set(names)) < len(names):
        raise UserError(
            f"tasks: {next(n for n in names if names.count(n) > 1)} stands twice; give each a name of its own"
        )
    return tuple(found)


def tasks_of(schema: LogSchema, asked: str | None) -> tuple[Task, ...]:
    """The tasks that are asked for; else those of a known layout; else each binary gain one.

    Raises UserError for a gain that no task can be made of, and for a log whose rows are events.
    """
    if schema.name in EVENTS:
        raise UserError(
            f"schema {schema.name}: a row is an event and its kind is the gain, so that it is there tells what it "
            "brought; make a log of views with what followed each as its gains, and predict from that"
        )
    text = asked or SETUPS.get(schema.name.removesuffix("-exposures"), (None, None))[0]
    if text is None:
        text = ",".join(f"{g.name}={g.name}" for g in schema.gains if g.kind == "binary")
        if not text:
            raise UserError(f"schema {schema.name} has no binary gain to predict; name tasks with  --set tasks=...")
    found = parse(text)
    for task in found:
        for name in task.gains:
            kind, wanted = schema.gain(name).kind, "binary" if task.is_binary else "continuous"
            if kind != wanted:
                do = "give it as a share:  NAME=GAIN/NUMBER" if kind == "continuous" else "leave the / out"
                raise UserError(f"task {task}: gain {name} is {kind}, expected {wanted}; {do}")
    return found


def parents(tasks: Sequence[Task]) -> list[int | None]:
    """For each task the one before it in the funnel: the narrowest that it implies.

    >>> parents(parse("ctr=c,ctcvr=c&b,cart=c&b&s,like=l"))
    [None, 0, 1, None]
    """
    above = [[k for k, other in enumerate(tasks) if task.implies(other)] for task in tasks]
    return [max(found, key=lambda k: len(above[k])) if found else None for found in above]


def keys_of(schema: LogSchema, asked: str | None) -> tuple[tuple[str, ...], ...]:
    """What running statistics are kept for: `user`, features, or several of them joined by +; "none": nothing.

    Default: those of a known layout, else the user and, where the log has a clock, each categorical feature of a step.
    """
    if asked == "none":
        return ()
    text = asked or SETUPS.get(schema.name.removesuffix("-exposures"), (None, None))[1]
    if text is not None:
        found = tuple(tuple(part.strip().split("+")) for part in text.split(","))
        for name in {n for key in found for n in key} - {"user"}:
            schema.feature(name)
    else:
        features = [f.name for f in schema.features if f.kind == "categorical" and f.level == "step"]
        found = (("user",), *((name,) for name in features))
    found = tuple(k for k in found if "user" not in k or schema.user is not None)
    return tuple(k for k in found if "user" in k or schema.time is not None)
