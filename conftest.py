"""README's code runs with `tmp`, a folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder_for_doctests(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    doctest_namespace["tmp"] = tmp_path
