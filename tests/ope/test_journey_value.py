"""Values over journeys count what a choice does to later steps; values of steps cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import headrace
from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.ope.account import journey_account
from headrace.ope.feedback import Feedback, feedback
from headrace.ope.fqe import FQEConfig
from headrace.ope.journey_value import JourneyValue, discount, journey_value, thin_overlap, transitions
from headrace.ope.support import Gate
from headrace.ope.transitions import Choices, channel_choices
from headrace.ope.valuation import Candidate, value

USERS, STEPS = 500, 12
TIRING = 0.3  # what a loud advert takes from the next step's chance
TRUE = {"quiet": 0.3, "loud": 0.5 - TIRING * (1 - 1 / STEPS)}  # gains a step discounted by 1 - 1 / STEPS, always alike


@pytest.fixture(scope="module")
def tiring(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    """Loud adverts bring .2 more now and .3 less at the next step; the log draws quiet and loud by lot."""
    rng = np.random.default_rng(0)
    loud = rng.random((USERS, STEPS)) < 0.5
    chance = 0.3 + 0.2 * loud - TIRING * np.pad(loud[:, :-1], ((0, 0), (1, 0)))
    folder: Path = tmp_path_factory.mktemp("tiring")
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(USERS), STEPS),
            "time": np.tile(np.arange(STEPS), USERS),
            "channel": np.where(loud, "loud", "quiet").ravel(),
            "click": (rng.random((USERS, STEPS)) < chance).astype(np.int64).ravel(),
            "p": np.full(USERS * STEPS, 0.5),
        }
    )
    frame.write_parquet(folder / "log.parquet")
    schema = headrace.LogSchema(
        "tiring", "user", "time", "s", channel="channel", gains=(headrace.Gain("click"),), propensity="p"
    )
    return headrace.prepare(folder / "log.parquet", schema, folder / "journeys")


def always(log: Journeys, channel: str) -> np.ndarray:
    return np.tile(np.array([c == channel for c in log.channels], dtype=np.float64), (log.n_steps, 1))


def of_policy(log: Journeys, chances: np.ndarray) -> Feedback:
    reward = np.asarray(log.gain("click"), dtype=np.float64)
    return feedback(log, np.arange(log.n_steps), chances, reward, np.asarray(log.column("propensity"), np.float64))


def valued(log: Journeys, chances: np.ndarray, *estimators: str) -> JourneyValue:
    return journey_value(log, of_policy(log, chances), estimators, resamples=200)


def test_a_choice_that_costs_later_steps_is_seen_over_journeys_and_not_at_steps(tiring: Journeys) -> None:
    both = {name: Candidate(always(tiring, name)) for name in TRUE}
    steps = value(both, tiring, estimators=["snips"], resamples=100)
    assert steps["loud"].estimates["snips"].value > steps["quiet"].estimates["snips"].value + 0.1
    found = {name: valued(tiring, always(tiring, name), "lstdq").estimates["lstdq"] for name in TRUE}
    for name, estimate in found.items():
        assert estimate.low is not None and estimate.high is not None and estimate.value is not None
        assert estimate.low <= TRUE[name] <= estimate.high and estimate.high - estimate.low < 0.25
    assert found["quiet"].value > found["loud"].value + 0.05


def test_fitted_networks_tell_the_same(tiring: Journeys) -> None:
    config = FQEConfig(gamma=0.9, hidden=(16,), ensemble=2, most_steps=1_500, progress=False)
    found = [
        journey_value(tiring, of_policy(tiring, always(tiring, name)), ["fqe"], config, resamples=50)
        .fitted["fqe"]
        .value
        for name in ("quiet", "loud")
    ]
    assert found[0] > found[1]


def test_the_policy_that_logged_is_worth_what_the_log_holds(tiring: Journeys) -> None:
    found = valued(tiring, np.full((tiring.n_steps, 2), 0.5), "pdis", "wpdis", "lstdq", "sdr")
    assert found.logged.value is not None
    for name in ("pdis", "wpdis"):
        assert found.estimates[name].value == pytest.approx(found.logged.value, abs=1e-9)
    for name in ("lstdq", "sdr"):
        assert found.estimates[name].value == pytest.approx(found.logged.value, abs=0.02)
    assert found.own["lstdq"].covers


def test_weights_of_whole_journeys_are_refused_where_they_vanish_and_fitted_values_are_not(tiring: Journeys) -> None:
    found = valued(tiring, always(tiring, "loud"), "pdis", "wpdis", "sdr", "lstdq").estimates
    for name in ("pdis", "wpdis", "sdr"):
        estimate = found[name]
        assert estimate.value is None and estimate.refused is not None and "whole journeys" in estimate.refused
    assert found["lstdq"].refused is None


def test_a_channel_that_the_log_never_chose_has_no_value_over_journeys_either(tiring: Journeys) -> None:
    of = of_policy(tiring, always(tiring, "loud"))
    quiet = replace(of, action=np.full(len(of), tiring.channels.index("quiet")))
    found = journey_value(tiring, quiet, ["wpdis", "lstdq", "sdr"], resamples=50).estimates
    for estimate in found.values():
        assert estimate.value is None and estimate.refused is not None and "never chose" in estimate.refused


def test_doubtful_propensities_refuse_what_uses_them_and_leave_the_rest(tiring: Journeys) -> None:
    of = of_policy(tiring, np.full((tiring.n_steps, 2), 0.5))
    found = journey_value(
        tiring, of, ["pdis", "wpdis", "sdr", "lstdq"], resamples=50, doubt="they do not fit"
    ).estimates
    assert {name: e.refused for name, e in found.items()} == dict.fromkeys(
        ("pdis", "wpdis", "sdr"), "they do not fit"
    ) | {"lstdq": None}
    assert all("raw_value" in found[name].diagnostics for name in ("pdis", "wpdis", "sdr"))


def test_journeys_with_gaps_are_an_error_and_cut_ends_are_none(tiring: Journeys) -> None:
    of = of_policy(tiring, always(tiring, "loud"))
    reward, propensity = of.reward.copy(), np.exp(of.log_propensity)
    at = np.arange(len(of)) % STEPS
    reward[at >= STEPS - 2] = np.nan
    late = feedback(tiring, of.rows, of.policy, reward, propensity)
    assert len(transitions(tiring, late).starts) == USERS
    reward[at == 4] = np.nan
    with pytest.raises(UserError, match=f"{USERS} steps inside of journeys are left out, the first before row 5 "):
        transitions(tiring, feedback(tiring, of.rows, of.policy, reward, propensity))


def test_no_refused_number_stands_outside_of_diagnostics(tiring: Journeys) -> None:
    of = of_policy(tiring, always(tiring, "loud"))
    of = replace(of, action=np.full(len(of), tiring.channels.index("quiet")))
    found = journey_value(tiring, of, ["lstdq"], resamples=50)
    told = journey_account({"loud": found})["policies"]["loud"]
    raw = told.pop("diagnostics")["value"]["lstdq"]["raw_value"]
    assert raw is not None and "q_policy" not in str(told) and "curve" not in str(told)


def test_every_way_in_which_whole_journeys_are_thin_is_told(tiring: Journeys) -> None:
    found = valued(tiring, np.full((tiring.n_steps, 2), 0.5), "pdis").overlap
    assert thin_overlap(found, Gate()) is None
    assert "effective sample of 99.0" in str(thin_overlap(replace(found, ess_groups=99.0), Gate()))
    assert "one user holds 21%" in str(thin_overlap(replace(found, largest_share=0.21), Gate()))
    off = replace(found, mean_weight=1.2, mean_weight_error=0.05)
    assert "mean weight of whole journeys is 1.200" in str(thin_overlap(off, Gate()))
    assert thin_overlap(replace(off, mean_weight_error=0.07), Gate()) is None


def test_the_choices_at_the_next_state_are_those_of_the_next_row(
    tiring: Journeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    import headrace.ope.journey_value as room

    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def choices(here: np.ndarray, after: np.ndarray) -> Choices:
        seen.append((here, after))
        return channel_choices(here, after)

    monkeypatch.setattr(room, "channel_choices", choices)
    chance = np.random.default_rng(0).random((tiring.n_steps, 1))
    of = of_policy(tiring, np.concatenate([chance, 1 - chance], axis=1))
    journey_value(tiring, of, ["lstdq"], resamples=20)
    assert np.array_equal(seen[0][0], of.policy) and np.array_equal(seen[0][1][:-1], of.policy[1:])


def test_a_model_that_misses_the_logs_own_return_is_refused(tiring: Journeys) -> None:
    of = of_policy(tiring, always(tiring, "loud"))
    own = valued(tiring, always(tiring, "loud"), "lstdq").own
    off = own["lstdq"]
    doubtful = {"lstdq": replace(off, covers=False)}
    found = journey_value(tiring, of, ["lstdq"], resamples=50, own=doubtful).estimates["lstdq"]
    assert found.value is None and found.refused is not None and "policy that logged" in found.refused


def test_episodes_are_the_users_journeys_cut_where_the_log_ends(tiring: Journeys) -> None:
    steps = transitions(tiring, of_policy(tiring, always(tiring, "loud")))
    assert len(steps.starts) == USERS and not steps.terminated.any() and steps.truncated.sum() == USERS
    assert np.isnan(steps.next_state[steps.truncated]).all()
    inside = np.flatnonzero(~steps.truncated)
    assert np.array_equal(steps.next_state[inside], steps.state[inside + 1])
    assert discount(steps) == pytest.approx(1 - 1 / STEPS)
