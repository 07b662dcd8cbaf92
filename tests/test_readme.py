"""The README's code runs as it stands."""

import doctest
from pathlib import Path


def test_the_readme_runs(tmp_path: Path) -> None:
    readme = Path(__file__).resolve().parents[1] / "README.md"
    result = doctest.testfile(str(readme), module_relative=False, globs={"tmp": tmp_path})
    assert result.attempted > 0 and result.failed == 0
