"""Files that a reader, or a power cut, finds whole: written beside, synced, swapped in."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in the place of `path`."""
    beside = path.with_name(f".{path.name}.new")
    write(beside)
    sync(beside)
    beside.replace(path)
    sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8", newline="\n"))


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
