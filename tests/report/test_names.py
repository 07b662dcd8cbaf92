"""Names: the report knows every floor that a table can hold, without the libraries that fit them."""

import subprocess
import sys

from headrace.evaluate import floors
from headrace.report.names import FLOORS, floor_order, is_floor


def test_every_floor_that_is_emitted_is_one_and_no_other_name() -> None:
    assert set(FLOORS) == set(floors.FITTERS) == {*floors.CLASS_FLOORS, *floors.GAIN_FLOORS}
    assert is_floor("lightgbm") and is_floor("past_rate") and not is_floor("lookup")
    for names in (floors.CLASS_FLOORS, floors.GAIN_FLOORS):
        assert sorted(names, key=floor_order) == list(names)


def test_names_are_read_without_scikit_learn() -> None:
    code = "import sys, headrace.report.names; print([m for m in ('sklearn', 'torch', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
