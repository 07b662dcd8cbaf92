"""Fitted Q evaluation against a process in closed form; each slip of the printed estimator is shown to matter."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from logged_sessions import (
    BEHAVIOUR,
    GAMMA,
    HAZARD,
    REWARD,
    STAYS,
    TARGET,
    log_weight,
    next_state_chances,
    one_hot,
    play,
    transitions,
    true_q,
    true_value,
    would_choose,
)

from headrace.errors import UserError
from headrace.evaluate.bootstrap import resample
from headrace.journeys.seams import Floats
from headrace.learn import updates
from headrace.ope.fitted import FittedQ, on_policy, reach
from headrace.ope.fqe import PRESETS, FQEConfig, fit
from headrace.ope.intervals import draw, estimate
from headrace.ope.linear_q import solve
from headrace.ope.sequential import Episodes, doubly_robust, pdis
from headrace.ope.transitions import Choices, Transitions, channel_choices, choices

QUICK = FQEConfig(
    gamma=GAMMA, target_rate=0.05, average=0.99, batch=128, most_steps=1_000, check_every=50, tolerance=0.02
)
ALIKE = replace(QUICK, resampled=False)  # all members fitted on the same users
TABLE = replace(ALIKE, hidden=(), ensemble=1, folds=1, learning_rate=0.03)
SMALL = replace(ALIKE, hidden=(16,), ensemble=2, folds=2, learning_rate=0.01)
EXACT = FQEConfig(gamma=GAMMA, folds=1, scaled=False)


def every_step() -> tuple[Transitions, np.ndarray, np.ndarray]:
    """Steps of BEHAVIOUR in exactly the shares that it has in the long run, each an episode of its own; s and s'."""
    rows = []
    for s in range(2):
        for a in range(3):
            for after in range(2):
                for ends in (True, False):
                    leaves = HAZARD[s, a] if ends else 1 - HAZARD[s, a]
                    stays = STAYS[s, a] if after == s else 1 - STAYS[s, a]
                    count = 1_000 * BEHAVIOUR[s, a] * leaves * stays
                    assert abs(count - round(count)) < 1e-6
                    rows += [(s, a, REWARD[s, a], after, ends)] * round(count)
    state, action, reward, after, ends = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    log = Transitions(
        one_hot(state, 2),
        one_hot(action, 3),
        reward,
        one_hot(after, 2),
        ends,
        ~ends,
        np.ones(n, dtype=np.bool_),
        np.arange(n),
        n,
    )
    return log, state, after


LOG, STATE, AFTER = every_step()


def of_policy(policy: Floats) -> Choices:
    return channel_choices(policy[STATE], policy[AFTER])


@pytest.mark.parametrize("policy", [TARGET, BEHAVIOUR, np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])])
def test_the_closed_form_gives_the_processes_value(policy: Floats) -> None:
    found = solve(LOG, of_policy(policy), EXACT)
    assert found.value == pytest.approx(true_value(policy), rel=1e-5)
    assert found.q.tolist() == pytest.approx(true_q(policy)[STATE, LOG.action.argmax(1)].tolist(), rel=1e-5)
    assert abs(found.td_mean) < 1e-6 and found.alarm is None


@pytest.mark.parametrize("config", [TABLE, SMALL], ids=["table", "network"])
@pytest.mark.parametrize("penalty", ["none", "policy"])
def test_fitting_comes_to_the_processes_value(config: FQEConfig, penalty: str) -> None:
    found = fit(LOG, of_policy(TARGET), replace(config, penalty=penalty))
    assert found.value == pytest.approx(true_value(TARGET), rel=0.02)
    assert found.converged and found.alarm is None
    assert np.abs(found.q - true_q(TARGET)[STATE, LOG.action.argmax(1)]).max() < 0.2
    assert np.abs(found.v - (true_q(TARGET) * TARGET).sum(axis=1)[STATE]).max() < 0.2
    assert found.spread < 0.05
    assert found.curve[0].mean() < found.curve[-1].mean() < 1.1 * found.value


def test_the_target_is_the_copy_and_not_the_network_in_training() -> None:
    """A copy that never follows stays at nothing: the value is then that of one step."""
    found = fit(LOG, of_policy(TARGET), replace(TABLE, target_rate=1e-9, bounded=False))
    assert found.value == pytest.approx((REWARD * TARGET).sum(axis=1).mean(), rel=0.02)


def test_the_conservative_value_comes_to_the_truth_as_the_penalty_goes_to_nothing() -> None:
    truth = true_value(TARGET)
    below = [truth - _conservative(TARGET, alpha) for alpha in (0.1, 0.01, 0.001, 0.0)]
    assert below[0] > 8 * below[1] > 60 * below[2] > 0
    assert below[3] == pytest.approx(0, abs=1e-5)


def _conservative(policy: Floats, alpha: float) -> float:
    return solve(LOG, of_policy(policy), replace(EXACT, penalty="policy", alpha=alpha)).value


def test_the_penalty_takes_from_each_step_what_the_policy_overdoes() -> None:
    """The fixed point of a table: Q = r - alpha (pi / b - 1) + gamma (1 - hazard) E Q."""
    alpha = 0.05
    onward = GAMMA * (1 - HAZARD)[..., None, None] * next_state_chances()[..., None] * TARGET
    penalised = REWARD - alpha * (TARGET / BEHAVIOUR - 1)
    q = np.linalg.solve(np.eye(6) - onward.reshape(6, 6), penalised.ravel()).reshape(2, 3)
    wanted = float((q * TARGET).sum(axis=1).mean())
    assert _conservative(TARGET, alpha) == pytest.approx(wanted, rel=1e-5)
    fitted = fit(LOG, of_policy(TARGET), replace(TABLE, penalty="policy", alpha=alpha, scaled=False))
    assert fitted.value == pytest.approx(wanted, rel=0.02)


def test_the_further_from_the_log_the_lower_the_conservative_value_and_on_policy_it_is_the_same() -> None:
    alpha = 0.02
    assert _conservative(BEHAVIOUR, alpha) == pytest.approx(true_value(BEHAVIOUR), rel=1e-5)
    mixtures = [(1 - share) * BEHAVIOUR + share * np.array([0.0, 0.0, 1.0]) for share in (0.0, 0.3, 0.6, 1.0)]
    below = [true_value(policy) - _conservative(policy, alpha) for policy in mixtures]
    assert all(a < b for a, b in pairwise(below)) and below[-1] > 0.1


def at_this_state(log: Transitions, of: Choices) -> tuple[Transitions, Choices]:
    return replace(log, next_state=log.state), Choices(of.here, of.here, of.complete)


def without_an_end(log: Transitions, of: Choices) -> tuple[Transitions, Choices]:
    return replace(log, terminated=np.zeros_like(log.terminated), truncated=np.ones_like(log.terminated)), of


@pytest.mark.parametrize("slip", [at_this_state, without_an_end])
@pytest.mark.parametrize("way", ["closed form", "gradients"])
def test_a_wrong_target_gives_a_wrong_value(
    slip: Callable[[Transitions, Choices], tuple[Transitions, Choices]], way: str
) -> None:
    """s for s' as Algorithm 2 prints it, and the done mask that no equation prints."""
    log, of = slip(LOG, of_policy(TARGET))
    found = solve(log, of, EXACT) if way == "closed form" else fit(log, of, TABLE)
    assert abs(found.value / true_value(TARGET) - 1) > 0.1  # the right one is within .02


@pytest.mark.parametrize("penalty", ["none", "policy"])
def test_maximising_as_printed_gives_no_value(penalty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    minimised = updates.conservative_loss
    monkeypatch.setattr(updates, "conservative_loss", lambda *given: -minimised(*given))
    found = fit(LOG, of_policy(TARGET), replace(TABLE, penalty=penalty))
    assert found.alarm is not None or abs(found.value / true_value(TARGET) - 1) > 0.5
    assert not found.converged


def test_counting_the_policy_twice_would_halve_the_value() -> None:
    """(9) as printed: sampled from pi and weighted by pi again."""
    twice = channel_choices(TARGET[STATE] ** 2, TARGET[AFTER])
    found = solve(LOG, twice, EXACT)
    assert found.value < 0.7 * true_value(TARGET)


@pytest.mark.parametrize("way", ["closed form", "gradients"])
def test_a_policy_that_does_what_was_never_logged_is_an_alarm_not_a_value(way: str) -> None:
    kept = LOG.action[:, 2] == 0
    log = Transitions(
        **{name: getattr(LOG, name)[kept] for name in ("state", "action", "reward", "next_state", "terminated")},
        truncated=LOG.truncated[kept],
        initial=LOG.initial[kept],
        group=np.arange(kept.sum()),
        groups=int(kept.sum()),
    )
    never = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    of = channel_choices(never[STATE[kept]], never[AFTER[kept]])
    config = replace(SMALL, penalty="policy", progress=False)
    found = solve(log, of, config) if way == "closed form" else fit(log, of, config)
    assert found.alarm is not None and "the policy does what the log hardly ever did" in found.alarm
    assert found.value < 0 < found.reach.low and found.q_policy < found.q_logged
    familiar = channel_choices(*(p / p.sum(1, keepdims=True) for p in _first_two(kept)))
    assert fit(log, familiar, config).alarm is None


def _first_two(kept: np.ndarray) -> tuple[Floats, Floats]:
    return TARGET[STATE[kept]] * [1, 1, 0], TARGET[AFTER[kept]] * [1, 1, 0]


def test_the_logging_policys_estimate_covers_its_return_and_another_policys_does_not() -> None:
    log = play(BEHAVIOUR, 1_500, seed=3)
    of = transitions(log)
    own = fit(of, would_choose(log, BEHAVIOUR), SMALL)
    found = on_policy(own, of, GAMMA)
    assert found.covers and found.low < 0 < found.high
    assert found.observed == pytest.approx(true_value(BEHAVIOUR), rel=0.05) and found.n == 1_500
    other = solve(of, would_choose(log, TARGET), EXACT)
    assert not on_policy(other, of, GAMMA).covers


def test_a_large_miss_is_one_however_wide_its_interval() -> None:
    log = play(BEHAVIOUR, 1_500, seed=3)
    of = transitions(log)
    own = solve(of, would_choose(log, BEHAVIOUR), EXACT)
    size = np.sqrt(np.mean(on_policy(own, of, GAMMA).observed ** 2))
    apart = np.where(np.arange(len(of)) % 2, 40.0, -40.0) * size  # whatever it is off by, its interval holds 0
    near, far = (
        on_policy(replace(own, v=own.v + apart - apart[of.starts].mean() + by), of, GAMMA) for by in (0.0, size)
    )
    assert near.low < 0 < near.high and near.covers
    assert far.low < 0 < far.high and not far.covers


def test_weight_decay_keeps_q_from_learning_a_small_log_by_heart() -> None:
    """Features that say nothing, few sessions: what Q tells of users it has not seen is to be near the mean reward."""
    rng = np.random.default_rng(0)
    n, one = 300, np.ones(300, dtype=np.bool_)
    noise = rng.standard_normal((n, 60)).astype(np.float32)
    action = np.zeros((n, 1), dtype=np.float32)
    of = Transitions(noise, action, 1 + rng.standard_normal(n), 0 * noise, one, ~one, one, np.arange(n), n)
    own = choices(
        (action[:, None], one[:, None].astype(np.float32)), (action[:, None], one[:, None].astype(np.float32))
    )
    config = replace(QUICK, hidden=(32,), ensemble=2, tolerance=0.0, gamma=0.0, learning_rate=0.01)
    free, held = (fit(of, own, replace(config, weight_decay=decay)) for decay in (0.0, 3.0))
    error = [float(np.sqrt(np.mean((found.v - of.reward.mean()) ** 2))) for found in (free, held)]
    assert error[1] < 0.9 * error[0]


def test_sessions_that_were_cut_go_on_where_they_were_cut() -> None:
    log = play(BEHAVIOUR, 3_000, seed=4, cut=2)
    of = transitions(log)
    assert of.truncated.mean() > 0.2
    found = solve(of, would_choose(log, BEHAVIOUR), EXACT)
    assert found.value == pytest.approx(true_value(BEHAVIOUR), rel=0.05)
    checked = on_policy(found, of, GAMMA)
    assert checked.covers and checked.observed == pytest.approx(found.value, rel=0.03)
    assert not on_policy(
        found, replace(of, terminated=of.terminated | of.truncated, truncated=~of.initial & False), GAMMA
    ).covers


@pytest.mark.parametrize("way", ["closed form", "gradients"])
def test_a_next_state_that_nobody_saw_is_not_read(way: str) -> None:
    log = play(BEHAVIOUR, 300, seed=4, cut=2)
    of = transitions(log)
    unseen = of.next_state.copy()
    unseen[of.terminated | of.truncated] = np.nan
    chosen = would_choose(log, TARGET)
    config = replace(SMALL, most_steps=100)
    found = (solve if way == "closed form" else fit)(replace(of, next_state=unseen), chosen, config)
    assert found.left_out == of.truncated.sum() > 0
    assert np.isfinite(found.q).all() and np.isfinite(found.v).all() and found.alarm is None
    assert np.isnan(found.v_next[of.truncated]).all() and (found.v_next[of.terminated] == 0).all()


def test_no_users_own_rewards_reach_the_q_that_values_it() -> None:
    log = play(BEHAVIOUR, 60, seed=5)
    of, chosen = transitions(log), would_choose(log, TARGET)
    changed = replace(of, reward=np.where(of.group == 7, 100.0, of.reward))
    config = replace(EXACT, folds=3)
    before, after = solve(of, chosen, config), solve(changed, chosen, config)
    same = before.q == after.q
    assert same[of.group == 7].all() and 0.5 < (~same).mean() < 0.8
    one_fold = replace(config, folds=1)
    assert not (solve(of, chosen, one_fold).q == solve(changed, chosen, one_fold).q).any()


def test_no_users_own_rewards_reach_the_networks_that_value_it() -> None:
    log = play(BEHAVIOUR, 60, seed=5)
    of, chosen = transitions(log), would_choose(log, TARGET)
    changed = replace(of, reward=np.where(of.group == 7, 1.5, of.reward))
    config = FQEConfig(**PRESETS["tiny"], scaled=False, rewards=(-1.0, 2.0), tolerance=0.0, folds=3, resampled=False)
    before, after = fit(of, chosen, config), fit(changed, chosen, config)
    same = before.q == after.q
    assert same[of.group == 7].all() and 0.5 < (~same).mean() < 0.8


def test_the_same_seed_gives_the_same_bits() -> None:
    log = play(BEHAVIOUR, 50, seed=6)
    of, chosen = transitions(log), would_choose(log, TARGET)
    config = FQEConfig(**PRESETS["tiny"], penalty="policy")
    first, again, other = (fit(of, chosen, replace(config, seed=seed)) for seed in (0, 0, 1))
    assert first.q.tobytes() == again.q.tobytes() and first.curve.tobytes() == again.curve.tobytes()
    assert first.q.tobytes() != other.q.tobytes()


def test_rewards_in_another_unit_give_the_value_in_that_unit() -> None:
    log = play(BEHAVIOUR, 50, seed=6)
    of, chosen = transitions(log), would_choose(log, TARGET)
    config = FQEConfig(**PRESETS["tiny"], penalty="policy", alpha=0.1)
    found = fit(of, chosen, config)
    other = fit(replace(of, reward=1_024.0 * of.reward), chosen, config)
    assert other.value == pytest.approx(1_024 * found.value, rel=1e-5)


def test_the_value_is_a_function_of_how_often_each_user_was_drawn() -> None:
    log = play(BEHAVIOUR, 40, seed=8)
    of = replace(transitions(log), group=transitions(log).group // 2, groups=20)  # two sessions a user
    found = solve(of, would_choose(log, TARGET), EXACT)
    functional = found.functional()
    assert functional.value(np.ones((1, 20)))[0] == pytest.approx(found.value)
    counts = next(iter(resample(20, 5, seed=1)))
    v = found.v[of.starts].reshape(20, 2).sum(axis=1)
    assert functional.value(counts).tolist() == pytest.approx((counts @ v / counts.sum(axis=1) / 2).tolist())


def test_the_standard_error_of_a_closed_form_is_the_spread_over_logs() -> None:
    values, told = [], []
    for seed in range(100):
        log = play(BEHAVIOUR, 200, seed=300 + seed)
        found = solve(transitions(log), would_choose(log, TARGET), replace(EXACT, folds=2))
        functional = found.functional()
        assert functional.error is not None
        values.append(found.value)
        told.append(float(functional.error(np.ones((1, 200)))[0]))
    assert np.mean(told) == pytest.approx(np.std(values, ddof=1), rel=0.2)


def test_members_that_saw_other_users_tell_the_standard_error_of_a_fit() -> None:
    log = play(BEHAVIOUR, 400, seed=9)
    of, chosen = transitions(log), would_choose(log, TARGET)
    exact = solve(of, chosen, replace(EXACT, folds=2)).fit_error
    fitted = fit(of, chosen, replace(TABLE, ensemble=30, folds=2, resampled=True))
    assert exact is not None and fitted.fit_error == pytest.approx(exact, rel=0.35)
    alike = fit(of, chosen, replace(TABLE, ensemble=3, folds=2))
    assert alike.fit_error is None and alike.spread < 0.3 * exact
    told = estimate(draw({"fqe": alike.functional()}, 400, 50)["fqe"], 400)
    assert told.value is None and told.refused is not None
    narrow = estimate(draw({"fqe": fitted.functional()}, 400, 50)["fqe"], 400)
    assert narrow.low is not None and narrow.low <= fitted.value - 1.96 * fitted.fit_error


def test_logsumexp_presses_on_every_action_and_needs_them_all() -> None:
    config = replace(TABLE, penalty="logsumexp", alpha=0.2, scaled=False)
    found = fit(LOG, of_policy(TARGET), config)
    assert 0.5 * true_value(TARGET) < found.value < true_value(TARGET) - 0.02
    sampled = replace(of_policy(TARGET), complete=False)
    with pytest.raises(ValueError, match="needs every action"):
        fit(LOG, sampled, config)
    with pytest.raises(ValueError, match="no closed form"):
        solve(LOG, of_policy(TARGET), config)


def box_log(n: int, seed: int) -> tuple[Transitions, Floats]:
    """A point of [-1, 1]^2, reward 1 - |a - state|^2; the session goes on with even odds, whatever is done."""
    rng = np.random.default_rng(seed)
    state = rng.uniform(-0.5, 0.5, (n, 2)).astype(np.float32)
    action = np.clip(state + rng.normal(0, 0.4, (n, 2)), -1, 1).astype(np.float32)
    reward = 1 - ((action - state) ** 2).sum(axis=1).astype(np.float64)
    ends = rng.random(n) < 0.5
    ends[-1] = True
    after = np.roll(state, -1, axis=0)  # the next row's state: sessions run until they end
    initial = np.append(True, ends[:-1])
    return Transitions(state, action, reward, after, ends, np.zeros(n, bool), initial, np.cumsum(initial) - 1, n), after


def test_actions_of_a_box_are_valued_from_samples_of_the_policy() -> None:
    of, after = box_log(4_000, seed=0)
    of = replace(of, groups=int(of.group[-1]) + 1)
    rng = np.random.default_rng(1)

    def sampled(state: Floats) -> tuple[Floats, Floats]:
        actions = state[:, None] + rng.normal(0, 0.1, (len(state), 4, 2))
        return actions.astype(np.float32), np.full((len(state), 4), 0.25, dtype=np.float32)

    found = fit(
        of, choices(sampled(of.state), sampled(after)), replace(SMALL, gamma=0.8, hidden=(32, 32), tolerance=0.002)
    )
    assert found.value == pytest.approx((1 - 2 * 0.1**2) / (1 - 0.8 * 0.5), rel=0.05)
    assert found.alarm is None


def test_a_fit_that_ran_out_of_updates_says_so() -> None:
    log = play(BEHAVIOUR, 30, seed=6)
    paper = FQEConfig(**PRESETS["paper"] | {"most_steps": 60, "check_every": 20})
    found = fit(transitions(log), would_choose(log, TARGET), paper)
    assert not found.converged and found.steps == 60
    assert found.curve_steps.tolist() == [20, 40, 60] and found.curve.shape == (3, 1)


def test_a_fit_that_diverges_is_an_alarm() -> None:
    log = play(BEHAVIOUR, 30, seed=6)
    config = FQEConfig(**PRESETS["tiny"], learning_rate=1e20, average=None)
    found = fit(transitions(log), would_choose(log, TARGET), config)
    assert found.alarm is not None and "diverged" in found.alarm and not found.converged


def test_stepwise_doubly_robust_with_fitted_q_is_nearer_than_pdis() -> None:
    errors: dict[str, list[float]] = {"dr": [], "pdis": []}
    for seed in range(20):
        log = play(BEHAVIOUR, 200, seed=100 + seed)
        of, chosen = transitions(log), would_choose(log, TARGET)
        q: FittedQ = solve(of, chosen, replace(EXACT, folds=5))
        episodes = Episodes(
            of.offsets, log_weight(log, TARGET, BEHAVIOUR), log.reward, np.arange(200), 200, GAMMA, q=q.q, v=q.v
        )
        for name, estimator in (("dr", doubly_robust), ("pdis", pdis)):
            errors[name].append(float(estimator(episodes).value(np.ones((1, 200)))[0]) - true_value(TARGET))
    assert np.std(errors["dr"]) < 0.95 * np.std(errors["pdis"])
    assert abs(np.mean(errors["dr"])) < 3 * np.std(errors["dr"]) / np.sqrt(20)


def test_what_rewards_can_add_up_to() -> None:
    log = play(BEHAVIOUR, 30, seed=6)
    of = transitions(log)
    longest = int(np.diff(of.offsets).max())
    inside = reach(of, 0.9, (-1.0, 2.0), None)
    assert (inside.low, inside.high) == pytest.approx((-10.0, 20.0))
    assert reach(of, 0.9, (1.0, 2.0), None).low == 1.0  # an episode has one step at least
    assert reach(of, 0.5, (0.0, 2.0), 2).high == pytest.approx(3.0)
    assert reach(of, 1.0, (0.0, 2.0), None).high == 2.0 * longest


def test_transitions_that_are_no_whole_episodes_are_refused() -> None:
    of = transitions(play(BEHAVIOUR, 10, seed=6))
    with pytest.raises(ValueError, match="begin at an initial row and end"):
        replace(of, terminated=np.zeros_like(of.terminated))
    with pytest.raises(UserError, match="no row with a known next state"):
        solve(
            replace(
                of,
                next_state=np.full_like(of.next_state, np.nan),
                terminated=np.zeros_like(of.terminated),
                truncated=of.terminated | of.truncated,
            ),
            would_choose(play(BEHAVIOUR, 10, seed=6), TARGET),
            EXACT,
        )


@pytest.mark.parametrize(
    ("field", "value"), [("gamma", 1.1), ("alpha", -1.0), ("folds", 0), ("target_rate", 0.0), ("weight_decay", -1.0)]
)
def test_a_config_that_makes_no_sense_is_told(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{field} = {value}"):
        replace(FQEConfig(), **{field: value})
