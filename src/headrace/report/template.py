"""The page templates of this folder, which share one style."""

from importlib.resources import files

import jinja2


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


def _source(name: str) -> str:
    return files("headrace.report").joinpath(name).read_text(encoding="utf-8")
