"""One demo's run for all tests that read one, a log beside it, and a command called in this process."""

from pathlib import Path

import pytest
from commands import Told, whole

from headrace.cli import run


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Calls a command in this process, which spares the imports: its exit code and what stands on stderr."""

    def called(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, capsys.readouterr().err

    return called


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a small demo; its journeys stand beside it, in demo-journeys."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    whole("demo", "--users", 60, "--set", "epochs=1", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def journeys(demo: Path) -> Path:
    """The journeys that the demo's run was trained on."""
    return demo.with_name("demo-journeys")


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Journeys of the same schema that no run has seen."""
    folder = tmp_path_factory.mktemp("unseen") / "journeys"
    assert run(["simulate", "ads", "--users", "40", "--days", "20", "--seed", "7", "--out", str(folder)]) == 0
    return folder
