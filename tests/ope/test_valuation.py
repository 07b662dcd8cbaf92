"""Several policies valued together: the log beside them, subgroups, and the room's own names."""

import numpy as np
import pytest

import headrace
from headrace.journeys.store import Journeys
from headrace.ope.support import Gate
from headrace.ope.valuation import ALL, Candidate, value

OPEN = Gate(least_ess=0, least_gains=0, largest_share=1, weight_slack=10)  # lets everything pass


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    folder = tmp_path_factory.mktemp("uniform") / "log"
    return headrace.simulate_log(headrace.Scenario.load("ads"), 400, 4, "uniform", 3, folder)


def alike(journeys: Journeys) -> np.ndarray:
    return np.full((journeys.n_steps, len(journeys.channels)), 1 / len(journeys.channels))


def test_the_room_is_at_hand_by_its_name_and_its_names_are_functions(uniform: Journeys) -> None:
    import headrace.ope.valuation  # the file does not hide the function

    found = headrace.ope.estimate(alike(uniform), uniform, estimators=["ips"])
    assert found.estimates["ips"].value == pytest.approx(uniform.gain("click").mean(), abs=1e-12)
    assert all(callable(getattr(headrace.ope, name)) for name in headrace.ope.__all__)
    with pytest.raises(AttributeError):
        headrace.ope.estmate  # noqa: B018


def test_a_subgroup_is_compared_with_the_log_on_the_same_rows(uniform: Journeys) -> None:
    half = np.arange(uniform.n_steps) % 2 == 0
    found = value({"uniform": Candidate(alike(uniform))}, uniform, estimators=["ips"], subgroups={"even": half})
    here = uniform.gain("click")[half].mean()
    assert found.logged["even"].value == pytest.approx(here)
    assert found.logged[ALL].value == pytest.approx(uniform.gain("click").mean())
    assert found.values["even"]["uniform"].estimates["ips"].value == pytest.approx(here)
    over = found.values["even"]["uniform"].over_logged["ips"]
    assert over.value == pytest.approx(0, abs=1e-12)


def test_the_log_is_valued_where_no_policy_is_given(uniform: Journeys) -> None:
    found = value({}, uniform)
    assert found.values[ALL] == {}
    assert found.logged[ALL].value == pytest.approx(uniform.gain("click").mean())


def test_selection_and_channel_add_up_to_the_difference(uniform: Journeys) -> None:
    select = (np.arange(uniform.n_steps) % 3 == 0).astype(np.float64)
    first = np.repeat(np.eye(len(uniform.channels))[:1], uniform.n_steps, axis=0)
    for name, chances in (("first", first), ("uniform", alike(uniform))):
        found = value({name: Candidate(chances, select)}, uniform, estimators=["ips", "dr"], gate=OPEN)[name]
        assert found.selection is not None
        for e in ("ips", "dr"):
            parts = found.selection.value, found.channel[e].value, found.over_logged[e].value
            assert None not in parts
            assert parts[0] + parts[1] == pytest.approx(parts[2])


def test_policies_named_with_slashes_are_valued_too(uniform: Journeys) -> None:
    pair = {"constant:a/b": Candidate(alike(uniform)), "run/two": Candidate(alike(uniform))}
    found = value(pair, uniform, estimators=["ips"])
    assert found.differences["constant:a/b", "run/two"]["ips"].value == 0


def test_what_a_selection_brings_is_refused_where_it_selects_hardly_any_gain(uniform: Journeys) -> None:
    click = np.asarray(uniform.gain("click"))
    quiet = np.isin(np.arange(uniform.n_steps), np.flatnonzero(click == 0)[::20]).astype(np.float64)
    found = value({"uniform": Candidate(alike(uniform), quiet)}, uniform, estimators=["ips"])["uniform"]
    assert found.selection is not None and found.selection.value is None
    assert "too few gains" in str(found.selection.refused)
    assert found.selection.diagnostics["raw_value"] == pytest.approx(-click.mean())


def test_the_logs_own_mean_needs_a_gain_and_no_more(uniform: Journeys) -> None:
    reward = np.zeros(uniform.n_steps)
    none = value({"uniform": Candidate(alike(uniform))}, uniform, reward=reward, estimators=["ips"])
    assert none.logged[ALL].value is None and "too few gains" in str(none.logged[ALL].refused)
    reward[[0, 700, 1_400, 2_100]] = 1.0
    found = value({"uniform": Candidate(alike(uniform))}, uniform, reward=reward, estimators=["ips"])
    assert found.logged[ALL].value == pytest.approx(reward.mean())
    assert found["uniform"].best.value is None


def test_rows_of_unknown_reward_are_left_out_and_counted(uniform: Journeys) -> None:
    click = np.asarray(uniform.gain("click"), dtype=np.float64)
    late = np.where(np.arange(uniform.n_steps) % 5 == 0, np.nan, click)
    found = value({"uniform": Candidate(alike(uniform))}, uniform, reward=late, estimators=["ips"])
    assert found.left_out == np.isnan(late).sum() > 0
    assert found["uniform"].best.value == pytest.approx(np.nanmean(late))
    assert found["uniform"].best.n == (~np.isnan(late)).sum()


def test_the_gain_model_is_told_the_users(uniform: Journeys, monkeypatch: pytest.MonkeyPatch) -> None:
    import headrace.ope.valuation as room

    seen: list[np.ndarray] = []

    def model(
        log: Journeys, rows: np.ndarray, reward: np.ndarray, codes: np.ndarray, *_: int, **__: object
    ) -> np.ndarray:
        seen.append(codes)
        return np.zeros((len(rows), len(log.channels)))

    monkeypatch.setattr(room, "reward_model", model)
    value({"uniform": Candidate(alike(uniform))}, uniform, estimators=["dr"], resamples=20)
    assert np.array_equal(seen[0], np.unique(uniform.user_of_step, return_inverse=True)[1])


def test_a_difference_is_refused_where_either_of_the_two_is(uniform: Journeys) -> None:
    sharp = np.zeros_like(alike(uniform))
    sharp[np.arange(uniform.n_steps), (np.asarray(uniform.channel) + 1) % 5] = 1.0  # never what the log did
    pair = {"fine": Candidate(alike(uniform)), "refused": Candidate(sharp)}
    for names in (("fine", "refused"), ("refused", "fine")):
        found = value({n: pair[n] for n in names}, uniform, estimators=["ips"])
        assert found["fine"].best.refused is None and found["refused"].best.refused is not None
        assert found.differences[names]["ips"].value is None
