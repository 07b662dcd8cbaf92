"""The page templates of this folder, which share one frame (base.html), one style and the same pieces."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from headrace.learn import durable


def template(name: str) -> jinja2.Template:
    """A template by its file's name; a value that it is not given is an error, never a blank."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def write(name: str, content: dict[str, Any], out: Path) -> Path:
    """The page of a template at `out`, whole or not at all; equal content gives equal bytes."""
    durable.replace_text(out, template(name).render(content))
    return out


def _source(name: str) -> str:
    return files("headrace.report").joinpath(name).read_text(encoding="utf-8")
