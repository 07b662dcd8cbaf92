"""What a person sees: results on standard output; progress on standard error, silent where that is no terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

# no markup: names and values of a log may hold brackets
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[..., None]]:
    """A bar; call it with (done, total), (what, done, total) or (what,)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)

        def tell(*news: object) -> None:
            what = f"{title}: {news[0]}" if news and isinstance(news[0], str) else title
            numbers = [n for n in news if isinstance(n, int | float)]
            if len(numbers) == 2:
                bar.update(task, description=what, completed=float(numbers[0]), total=float(numbers[1]))
            else:
                bar.update(task, description=what)

        yield tell
