"""What several rooms' tests share: the folder of real data, where it is."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real logs: HEADRACE_DATA, or `shared/data` beside a folder above this file."""
    named = os.environ.get("HEADRACE_DATA")
    above = Path(__file__).resolve().parents
    places = [Path(named)] if named else [folder / "shared" / "data" for folder in above]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip("real data not here: set HEADRACE_DATA to the folder that holds kuairand_random and the others")
    return found
