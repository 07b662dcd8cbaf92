"""headrace fields: what --set can change of a method, with its default and what it is for."""

from dataclasses import dataclass
from typing import Any

import tyro


@dataclass(frozen=True, slots=True)
class Fields:
    """List the fields of a method's config, which train and tune take as --set KEY=VALUE."""

    method: tyro.conf.Positional[str]
    """One that train knows: mtorl, rmtl, bcq, ..."""

    def execute(self) -> None:
        from rich.table import Table
        from rich.text import Text

        from headrace.cli.console import out
        from headrace.cli.rooms import method_of

        kind = method_of(self.method)
        table = Table("field", "default", "what it is for (what it takes)", box=None, pad_edge=False)
        table.columns[0].no_wrap = True
        table.columns[2].overflow = "fold"
        for field, default, takes, why in described(kind.config_type):
            table.add_row(Text(field), Text(default), Text.assemble(f"{why} " if why else "", (f"({takes})", "dim")))
        out.print(table)
        out.print(f"presets: {', '.join(kind.presets)}; what a preset says stands over these defaults, --set over both")


def described(config: type) -> list[tuple[str, str, str, str]]:
    """(field, default, what it takes, comment) of a config dataclass; the comments are those of its source.

    >>> from headrace.ope.fqe import FQEConfig
    >>> [row for row in described(FQEConfig) if row[0] in ("penalty", "alpha")]  # doctest: +NORMALIZE_WHITESPACE
    [('penalty', 'none', 'none | policy | logsumexp', 'policy: right for one given policy; none: plain FQE'),
     ('alpha', '0.0005', 'a number', 'weight of the penalty')]
    """
    import ast
    import dataclasses
    import inspect
    import typing

    from headrace.cli.settings import as_text

    why: dict[str, str] = {}
    for kind in filter(dataclasses.is_dataclass, reversed(config.__mro__)):
        source = inspect.getsource(kind)
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                told = (line.partition("  # ")[2] for line in lines[node.lineno - 1 : node.end_lineno])
                comment = " ".join(filter(None, told))
                why[node.target.id] = comment or why.get(node.target.id, "")  # a new default leaves the base's comment
    hints = typing.get_type_hints(config)
    return [
        (f.name, as_text(_plain(f.default)), _takes(hints[f.name]), why[f.name]) for f in dataclasses.fields(config)
    ]


def _plain(default: Any) -> Any:
    """A default as a TOML file would hold it, which has no None and no tuples."""
    return "none" if default is None else list(default) if isinstance(default, tuple) else default


def _takes(hint: Any) -> str:
    """What --set reads for a field of this type.

    >>> _takes(int | None), _takes(tuple[float, ...])
    ('a whole number or none', 'numbers, comma between them')
    """
    import types
    import typing

    from headrace.cli.settings import EXPECTED

    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_takes, typing.get_args(hint)))
    return EXPECTED.get(hint, str(hint))
