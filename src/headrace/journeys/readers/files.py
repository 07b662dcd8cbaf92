"""One data file, of any type that logs come in, as a lazy frame whose rows are numbered.

parquet; csv and tsv, plain or packed as .gz or .zst; and .zip holding any of these. What polars says about a broken
file is told in the user's words: which file, what is wrong with it, what to do.
"""

import csv
import errno
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.errors import UserError
from headrace.journeys.schema import LogSchema

ROW = "__row"  # the place of a row in its log, 0 for the first
TYPES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
_LOOK_AHEAD = 10_000  # rows of a text file from which the types of its columns are guessed


@dataclass(frozen=True, slots=True)
class Files:
    """How files are opened during one preparation."""

    scratch: Path  # a folder for what zip files hold
    thorough: bool = False  # guess the types of text columns from all rows, not from the first ones


@dataclass(frozen=True, slots=True)
class Source:
    """A log found on disk: `frame` holds ROW, the log's own columns (`raw`) and whatever was joined or derived."""

    frame: pl.LazyFrame
    raw: tuple[str, ...]  # columns of the log file itself: rows equal in all of them are duplicates
    files: tuple[Path, ...]  # the log file or files, for messages
    schema: LogSchema  # the schema of this layout, without what an absent optional file would have brought
    absent: tuple[str, ...] = ()  # optional files that were not there

    @property
    def where(self) -> str:
        """The log as messages name it."""
        return str(self.files[0]) if len(self.files) == 1 else f"{self.files[0].parent} ({len(self.files)} log files)"


def kind(path: Path) -> str | None:
    """The ending that says how a file is read, `.zip`, or None where no reader is known.

    >>> kind(Path("log.TSV.gz")), kind(Path("log.xlsx"))
    ('.tsv.gz', None)
    """
    name = path.name.lower()
    return next((ending for ending in (*TYPES[::-1], ".zip") if name.endswith(ending)), None)


def scan(path: Path, files: Files) -> pl.LazyFrame:
    """The rows of one file; raises UserError for a file that is missing, empty, broken or of an unknown type."""
    if not path.exists():
        raise UserError(f"{path}: no such file; give the path of a log ({', '.join(TYPES)}, .zip)")
    ending = kind(path)
    if ending is None:
        raise UserError(f"{path}: unknown file type {path.suffix!r}; expected {', '.join(TYPES)} or .zip")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); expected a header and rows, get the file again")
    if ending == ".zip":
        inside = unzip(path, files.scratch)
        if inside.is_dir():
            raise UserError(f"{path}: holds several logs; unpack it and give the one you mean")
        return scan(inside, files)
    with broken_files(path):
        if ending == ".parquet":
            frame = pl.scan_parquet(path, glob=False)
        else:
            look_ahead = None if files.thorough else _LOOK_AHEAD
            frame = pl.scan_csv(
                path, separator=separator(path), infer_schema_length=look_ahead, try_parse_dates=False, glob=False
            )
        frame.collect_schema()
    return frame


def scan_log(paths: Sequence[Path], files: Files, rename: dict[str, str] | None = None) -> pl.LazyFrame:
    """The rows of a log's files, one after the other, numbered by ROW."""
    frames = [scan(path, files) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        ours, first = frame.collect_schema().names(), frames[0].collect_schema().names()
        if ours != first:
            odd = sorted(set(ours) ^ set(first)) or ours
            raise UserError(
                f"{path}: its columns are not those of {paths[0].name} ({', '.join(odd[:5])}); give files of one layout"
            )
    frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
    if rename:
        frame = frame.rename(rename, strict=False)
    return frame.with_row_index(ROW)


def find(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """The files of a folder (or its `data` folder) whose stem fits a pattern, in the order of the patterns."""
    found: list[Path] = []
    for place in (folder, folder / "data"):
        for pattern in patterns:
            hits = sorted(p for p in place.glob(f"{pattern}.*") if kind(p)) if place.is_dir() else []
            found += [p for p in hits if p not in found]
        if found:
            return found
    raise UserError(
        f"{folder}: no {what} here; expected a file named {' or '.join(patterns)} with one of {', '.join(TYPES)}"
    )


def only(source: Path) -> list[Path]:
    """The log that `source` is: a file, or the files of one type in a folder, in the order of their names."""
    if not source.is_dir():
        return [source]
    logs = sorted(p for p in source.iterdir() if p.is_file() and kind(p) and not p.name.startswith((".", "_")))
    if not logs:
        raise UserError(f"{source}: no log in this folder; expected files ending in {', '.join(TYPES)} or .zip")
    if len({kind(p) for p in logs}) > 1:
        names = ", ".join(p.name for p in logs[:4])
        raise UserError(f"{source}: files of several types ({names}); give the log itself, not the folder")
    return logs


def separator(path: Path) -> str:
    """The character between columns: a tab in .tsv, else the one the first line holds most of."""
    if ".tsv" in path.name.lower():
        return "\t"
    if (kind(path) or "") != ".csv":
        return ","
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = file.readline()
    try:
        return csv.Sniffer().sniff(first, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


@contextmanager
def broken_files(where: Path | str) -> Iterator[None]:
    """Tell what polars raises over a broken file as a UserError."""
    try:
        yield
    except pl.exceptions.NoDataError:
        raise UserError(f"{where}: the file is empty; expected a header and rows, get the file again") from None
    except (OSError, pl.exceptions.ComputeError) as error:
        text = " ".join(str(error).split())
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
            raise UserError(f"{where}: no space left on the disk; free some, or give an --out elsewhere") from None
        signs = ("unexpected end of file", "unexpected EOF", "incomplete frame", "corrupt", "deflate", "invalid gzip")
        if any(sign.lower() in text.lower() for sign in signs):
            raise UserError(f"{where}: the file is cut short or damaged ({text[:120]}); get it again") from None
        if "out of specification" in text.lower() or "PAR1" in text:
            raise UserError(f"{where}: not a whole parquet file ({text[:120]}); get it again") from None
        if "parse" in text.lower():
            raise
        raise UserError(f"{where}: can't be read ({text[:200]}); check the file") from error


def unzip(path: Path, scratch: Path) -> Path:
    """What a zip file holds, unpacked: the one data file in it, or the folder of several."""
    folder = scratch / path.name
    try:
        with zipfile.ZipFile(path) as archive:
            held = [n for n in archive.namelist() if kind(Path(n)) and not n.startswith("__MACOSX")]
            if not held:
                raise UserError(f"{path}: holds no log; expected files ending in {', '.join(TYPES)}")
            unpacked = [Path(archive.extract(name, folder)) for name in held]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: the zip file is cut short or damaged ({error}); get it again") from None
    if len(unpacked) == 1:
        return unpacked[0]
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder
