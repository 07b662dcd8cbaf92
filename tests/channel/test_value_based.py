"""Value-based methods: each reaches the chain's known optimum, and each loss is what its equation says, by hand."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import EXACT, LEFT, OFF, RIGHT, STATES, by_state, chain_log, optimal, whole
from torch import Tensor

from headrace.channel import ag, cql, iql, rbcq
from headrace.channel.fitting import tensors
from headrace.channel.methods import METHODS, load
from headrace.channel.recommend import recommend
from headrace.channel.scoring import wanted
from headrace.channel.state import Heads, Transitions, break_even, ends_of, transitions
from headrace.errors import UserError
from headrace.evaluate.targets import Target
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.views import Batch, View, histories
from headrace.learn.run import Run

TOLERANCE = 0.05  # of Q, whose largest is 1
PRICED: dict[str, Any] = {"reward_target": "penalised", "penalty": 1.0}
OWN: dict[str, dict[str, Any]] = {
    "ag": {"alpha": 0.01},
    "discrete-cql": {"alpha": 0.01},
    "discrete-iql": {"tau": 0.95, "beta": 30.0},
    "r-bcq": {"threshold": 0.02, "heads": 4},
}


def method_on(journeys: Journeys, name: str, folder: Path, **change: Any) -> Any:
    kind = METHODS[name]
    method = kind(kind.config_type(**(EXACT | OWN[name] | change)))
    return method.fit(journeys, whole(journeys), folder, progress=False)


@pytest.mark.parametrize("name", OWN)
def test_it_reaches_the_known_optimum_of_a_chain(name: str, tmp_path: Path):
    journeys = chain_log(tmp_path / "j", 120)
    method = method_on(journeys, name, tmp_path / "run")
    found = method.predict(journeys, np.ones(journeys.n_steps, dtype=bool))
    q = by_state(journeys, found.rows, found.values)
    best = optimal(tau=0.95 if name == "discrete-iql" else 1.0)
    assert np.abs(q - best).max() < TOLERANCE
    clear = np.abs(optimal()[:, LEFT] - optimal()[:, RIGHT]) > TOLERANCE  # all states but the second
    assert clear.tolist() == [True, False, *[True] * (STATES - 2)]
    policy = by_state(journeys, found.rows, found.action)
    for said in (q, policy):
        assert said.argmax(axis=1)[clear].tolist() == optimal().argmax(axis=1)[clear].tolist()


@pytest.fixture(scope="module")
def costly(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    """Steps to the right cost 0.05 each."""
    return chain_log(tmp_path_factory.mktemp("costly") / "j", 120, cost=0.05)


def test_one_network_of_r_bcq_is_optimal_at_every_price_of_money(costly: Journeys, tmp_path: Path):
    method = method_on(costly, "r-bcq", tmp_path / "run", **PRICED, most_multiplier=2.0, epochs=80)
    low, high = method.transforms.reward_range
    rows = np.arange(costly.n_steps)
    chosen = {}
    for multiplier in (0.0, 1.0, 2.0):
        method.multiplier = multiplier
        q = by_state(costly, rows, method.predict(costly, np.ones(len(rows), dtype=bool)).values)
        assert np.abs(q - optimal(0.05 * multiplier, high - low)).max() < 2 * TOLERANCE, multiplier  # Q is up to 1.7
        chosen[multiplier] = q.argmax(axis=1)
    assert (chosen[0.0] == RIGHT).sum() > (chosen[2.0] == RIGHT).sum()  # what is dear is done less
    history = histories(costly, rows[:50], 8)
    state = np.asarray(costly.column("feature/state"))[:50]
    said = method.policy_at(0.0).probabilities(history).argmax(axis=1)
    assert (said == chosen[0.0][state]).mean() > 0.9
    assert method.multiplier == 2.0
    with pytest.raises(UserError, match="multiplier 3, trained for 0 to 2"):
        method.policy_at(3.0)


def test_a_journey_is_not_drawn_out_because_its_end_brings_nothing(tmp_path: Path):
    """Where a step costs 0.2, (3) is worth 0.2 when nothing comes: walking to and fro would then pay more than leaving
    on either side."""
    journeys = chain_log(tmp_path / "j", 60, cost=0.2)
    method = method_on(journeys, "r-bcq", tmp_path / "run", **PRICED, epochs=40)
    low, high = method.transforms.reward_range
    assert low == pytest.approx(-0.2)
    everything = np.ones(journeys.n_steps, dtype=bool)
    q = by_state(journeys, np.arange(journeys.n_steps), method.predict(journeys, everything).values)
    best = optimal(0.2, high - low)
    assert np.abs(q - best).max() < 2 * TOLERANCE
    clear = np.abs(best[:, LEFT] - best[:, RIGHT]) > 2 * TOLERANCE
    assert clear[[0, STATES - 1]].all()
    assert q.argmax(axis=1)[clear].tolist() == best.argmax(axis=1)[clear].tolist()


def test_ag_takes_the_best_single_policy_for_the_budget(costly: Journeys, tmp_path: Path):
    method = method_on(costly, "ag", tmp_path / "run", multipliers=(0.0, 1.0, 2.0), **PRICED)
    low, high = method.transforms.reward_range
    everything = np.ones(costly.n_steps, dtype=bool)
    validation = whole(costly).parts["validation"]
    state = np.asarray(costly.column("feature/state"))[validation]
    found = {}
    for i, multiplier in enumerate((0.0, 1.0, 2.0)):
        method.chosen = i
        q = by_state(costly, np.arange(costly.n_steps), method.predict(costly, everything).values)
        assert np.abs(q - optimal(0.05 * multiplier, high - low)).max() < 2 * TOLERANCE, multiplier
        right = q.argmax(axis=1) == RIGHT
        found[i] = 0.05 * right[state].mean()
    assert method.spend == pytest.approx(list(found.values()), abs=0.006)
    assert method.spend[0] > method.spend[2]
    again = load(Run.open(tmp_path / "run"))
    logged = float(np.asarray(costly.column("cost"))[validation].mean())
    assert again.chosen == ag.best(method.spend, logged)  # type: ignore[attr-defined]
    history = histories(costly, np.arange(20), 8)
    for budget in (1.0, (method.spend[0] + method.spend[2]) / 2, 0.0):
        method.chosen = ag.best(method.spend, budget)
        ours, theirs = (m.probabilities(history) for m in (method.policy(False), again.policy_for(budget)))  # type: ignore[attr-defined]
        assert np.array_equal(ours, theirs)
    free = chain_log(tmp_path / "free", 20)
    with pytest.raises(UserError, match="knows no cost"):
        method_on(free, "ag", tmp_path / "other", epochs=1).policy_for(0.1)


@pytest.mark.parametrize("name", OWN)
def test_a_price_on_cost_is_learnt_of_where_it_is_asked_for_and_nowhere_else(
    name: str, costly: Journeys, tmp_path: Path
):
    """The same log in cents is the same log: its values are those of the gain."""
    cents = with_costs(costly, 100 * np.asarray(costly.column("cost")), tmp_path / "cents-log")
    rows = np.arange(costly.n_steps)

    def values(journeys: Journeys, run: str, **change: Any) -> np.ndarray:
        method = method_on(journeys, name, tmp_path / run, **({"epochs": 60, "penalty": 1.0} | change))
        if name == "ag":
            method.chosen = method.network.multipliers.index(method.penalty)
        return by_state(journeys, rows, method.predict(journeys, np.ones(len(rows), dtype=bool)).values)

    tau = 0.95 if name == "discrete-iql" else 1.0
    assert np.abs(values(cents, "cents") - optimal(tau=tau)).max() < 2 * TOLERANCE
    priced = values(costly, "priced", reward_target="penalised")
    assert np.abs(priced - optimal(0.05, tau=tau)).max() < 2 * TOLERANCE  # (3) reaches from -.05 to .95


@pytest.mark.parametrize("threshold", [0.3, 0.0])
def test_bcq_leaves_alone_what_the_log_hardly_shows(threshold: float, tmp_path: Path):
    """The third channel is as good as `right`, and one step in 30: by chance its Q is the larger here and there."""
    journeys = chain_log(tmp_path / "j", 100, off=0.03)
    method = method_on(journeys, "r-bcq", tmp_path / "run", threshold=threshold, epochs=20)
    found = method.predict(journeys, np.ones(journeys.n_steps, dtype=bool))
    ruled_out = np.isinf(found.values[:, OFF])
    recommended = (recommend(method, journeys)["channel"] == "off").mean()
    if threshold:
        assert ruled_out.mean() > 0.9 and recommended <= 0.1
    else:
        assert not ruled_out.any()


# Losses by hand: every head says a constant, so each expectation is over the logged channels and rewards alone.


def constant(heads: Heads | torch.nn.Linear, values: list[float]) -> None:
    out = heads.out if isinstance(heads, Heads) else heads
    with torch.no_grad():
        out.weight.zero_()
        out.bias.copy_(torch.tensor(values))


def learner_of(name: str, journeys: Journeys, tmp_path: Path, **change: Any) -> Any:
    method = method_on(journeys, name, tmp_path / "run", epochs=1, **change)
    steps = View(journeys, np.ones(journeys.n_steps, dtype=bool), None, ())
    module = {"ag": ag, "discrete-cql": cql, "discrete-iql": iql, "r-bcq": rbcq}[name]
    return module.Learner(method.network, method.transforms, steps, steps, method.config)


def seen(learner: Any, journeys: Journeys) -> tuple[Batch, Transitions, tuple[Tensor, ...]]:
    batch = learner.train.batch(np.arange(len(learner.train)))
    of = transitions(batch, ends_of(journeys), learner.transforms, torch.device("cpu"))
    return batch, of, tensors(learner.transforms.encode(batch.history), torch.device("cpu"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return chain_log(tmp_path_factory.mktemp("short") / "j", 12)


def columns(journeys: Journeys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) logged channels, gains, and whether the journey ends there, from the log itself."""
    end = np.zeros(journeys.n_steps, dtype=bool)
    end[np.asarray(journeys.offsets)[1:] - 1] = True
    return np.asarray(journeys.channel).astype(int), np.asarray(journeys.gain("gain")).astype(float), end


def test_cql_is_log_sum_exp_less_the_logged_channel_and_a_target_of_the_frozen_twins(short: Journeys, tmp_path: Path):
    learner = learner_of("discrete-cql", short, tmp_path, alpha=0.7)
    batch, of, inputs = seen(learner, short)
    q, frozen = np.array([[0.2, 0.9], [0.3, 0.5]]), np.array([[4.0, 2.0], [5.0, 1.0]])
    for i in range(2):
        constant(learner.network.critics[i], q[i].tolist())
        constant(learner.target.critics[i], frozen[i].tolist())
    channel, gain, end = columns(short)
    # Online twins prefer `right` (.5 > .2 by the smaller), of which the smaller frozen one says 1: not 4, not 2.
    y = gain + 0.9 * 1.0 * ~end
    expected = 0.0
    for values in q:
        penalty = np.log(np.exp(values).sum()) - values[channel]
        expected += 0.7 * penalty.mean() + 0.5 * ((values[channel] - y) ** 2).mean()
    assert float(learner.losses(batch)["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    found = learner.targets(inputs, of.reward, of.terminated)
    assert found[of.terminated].tolist() == pytest.approx(gain[end].tolist())  # the terminal mask
    assert not found.requires_grad


def test_the_target_is_a_copy_that_follows_by_its_rate(short: Journeys, tmp_path: Path):
    learner = learner_of("discrete-cql", short, tmp_path, target_rate=0.25)
    batch, of, inputs = seen(learner, short)
    before = learner.targets(inputs, of.reward, of.terminated)
    with torch.no_grad():
        for critic in learner.network.critics:
            critic.out.bias.add_(10.0)  # the same channel is preferred
    assert torch.equal(learner.targets(inputs, of.reward, of.terminated), before)
    was = {name: tensor.clone() for name, tensor in learner.target.state_dict().items()}
    learner.step(batch)
    for name, tensor in learner.target.state_dict().items():
        if tensor.is_floating_point() and name in dict(learner.network.named_parameters()):
            online = learner.network.state_dict()[name]
            torch.testing.assert_close(tensor, 0.75 * was[name] + 0.25 * online, msg=name)
    assert not torch.equal(learner.targets(inputs, of.reward, of.terminated), before)
    held, values = learner.state()
    assert any(name.startswith("target/") for name in held)  # or a resumed fit would bootstrap from another
    kept = {name: tensor.clone() for name, tensor in held.items()}
    learner.step(batch)
    learner.load((kept, values))
    again = learner.state()[0]
    assert all(torch.equal(again[name], kept[name]) for name in kept if name.startswith("target/"))


def test_iql_is_an_expectile_a_td_error_and_a_clipped_weight(short: Journeys, tmp_path: Path):
    learner = learner_of("discrete-iql", short, tmp_path, tau=0.8, beta=2.0, most_weight=3.0)
    batch, _, _ = seen(learner, short)
    q, frozen, v, logits = np.array([[0.2, 0.9], [0.3, 0.5]]), np.array([[0.1, 3.0], [0.6, 2.0]]), 0.4, np.array([1, 2])
    for i in range(2):
        constant(learner.network.critics[i], q[i].tolist())
        constant(learner.target.critics[i], frozen[i].tolist())
    constant(learner.network.value, [v])
    constant(learner.network.policy, logits.astype(float).tolist())
    channel, gain, end = columns(short)
    bar = frozen.min(axis=0)[channel]  # (.1, 2.)
    expectile = (np.where(bar < v, 0.2, 0.8) * (bar - v) ** 2).mean()
    y = gain + 0.9 * v * ~end
    critic = sum(0.5 * ((values[channel] - y) ** 2).mean() for values in q)
    weight = np.minimum(np.exp(2.0 * (bar - v)), 3.0)  # of `right`: 24.5, clipped
    log_pi = (logits - np.log(np.exp(logits).sum()))[channel]
    found = learner.losses(batch)
    assert float(found["expectile"].detach()) == pytest.approx(expectile, rel=1e-5)
    assert float(found["critic"].detach()) == pytest.approx(critic, rel=1e-5)
    assert float(found["actor"].detach()) == pytest.approx(-(weight * log_pi).mean(), rel=1e-5)
    assert float(found["policy"].detach()) == pytest.approx(-log_pi.mean(), rel=1e-5)
    assert float(found["loss"].detach()) == pytest.approx(expectile + critic - (weight * log_pi).mean(), rel=1e-5)


@pytest.mark.parametrize(("threshold", "bootstrapped"), [(0.4, 1.0), (0.2, 7.0)])
def test_bcq_bootstraps_from_channels_that_the_imitation_allows(
    threshold: float, bootstrapped: float, tmp_path: Path, costly: Journeys
):
    learner = learner_of("r-bcq", costly, tmp_path, threshold=threshold, heads=2, most_multiplier=2.0, **PRICED)
    batch, of, inputs = seen(learner, costly)
    constant(learner.network.imitation, [math.log(3.0), 0.0])  # pi_b of `right` is a third of that of `left`
    constant(learner.network.out, [0.0, 1.0, 0.0, 3.0])  # both heads prefer `right`
    constant(learner.target.out, [0.0, 6.0, 2.0, 8.0])  # Q_1 = (0, 6), Q_2 = (2, 8), mixed half and half: (1, 7)
    shares, multiplier = torch.tensor([0.5, 0.5]), torch.full((len(batch),), 2.0)
    found = learner.targets(inputs, of.reward, of.terminated, multiplier, shares)
    expected = of.reward + 0.9 * bootstrapped * ~of.terminated
    torch.testing.assert_close(found[of.learnt], expected[of.learnt])


def spread_of(journeys: Journeys, multiplier: float) -> float:
    """Standard deviation of the gain less the multiplier times the cost."""
    channel, gain, _ = columns(journeys)
    return float((gain - multiplier * 0.05 * (channel == RIGHT)).std(ddof=1))


def with_costs(of: Journeys, cost: np.ndarray, folder: Path) -> Journeys:
    """The same chain at other costs."""
    columns_of = {name: np.array(of.column(name)) for name in ("feature/state", "channel", "gain/gain")}
    with JourneysWriter(folder, of.schema) as writer:
        writer.append(np.arange(of.n_users), np.diff(np.asarray(of.offsets)), columns_of | {"cost": cost})
        return writer.close()


def test_r_bcq_knows_the_price_that_is_used_where_prices_go_far_beyond_it(tmp_path: Path):
    """One step to the right in fifty costs, so that money breaks even at a hundred times the penalty that is asked for:
    there hardly anything but these few costs is left of the reward."""
    of = chain_log(tmp_path / "j", 120, cost=1.0)
    dear = (np.asarray(of.channel) == RIGHT) & (np.random.default_rng(0).random(of.n_steps) < 0.02)
    journeys = with_costs(of, np.where(dear, 0.1, 0.0), tmp_path / "dear")
    method = method_on(journeys, "r-bcq", tmp_path / "run", **(PRICED | {"penalty": 0.5}))
    assert method.network.most > 100 * 0.5
    low, high = method.transforms.reward_range
    q = by_state(
        journeys, np.arange(journeys.n_steps), method.predict(journeys, np.ones(journeys.n_steps, bool)).values
    )
    assert np.abs(q - optimal(0.5 * 0.002, high - low)).max() < 2 * TOLERANCE


def test_a_price_of_money_means_nothing_where_nothing_costs(tmp_path: Path):
    method = method_on(chain_log(tmp_path / "j", 20), "r-bcq", tmp_path / "run", epochs=1)
    method.policy_at(0.0)
    with pytest.raises(UserError, match="knows no cost"):
        method.policy_at(0.5)


def test_r_bcq_learns_of_gain_less_the_multiplier_that_it_reads(costly: Journeys, tmp_path: Path):
    learner = learner_of("r-bcq", costly, tmp_path, heads=2, most_multiplier=2.0, gamma=0.0, **PRICED)
    batch, _, _ = seen(learner, costly)
    multiplier = torch.linspace(0.0, 2.0, len(batch))
    learner.multipliers = lambda journeys, device: multiplier
    constant(learner.network.out, [0.0] * 4)
    channel, gain, _ = columns(costly)
    low, high = learner.transforms.reward_range  # of gain - 1.0 * cost
    assert low == pytest.approx(gain.min() - 0.05)
    each = np.repeat(multiplier.numpy(), np.diff(np.asarray(costly.offsets)))
    spread = np.array([spread_of(costly, value) for value in multiplier.numpy()])
    unit = np.repeat(spread / spread_of(costly, 1.0), np.diff(np.asarray(costly.offsets)))
    reward = (gain - each * 0.05 * (channel == RIGHT)) / (high - low) / unit
    assert float(learner.losses(batch)["critic"].detach()) == pytest.approx(0.5 * (reward**2).mean(), rel=1e-4)


def test_ag_has_a_conservative_target_of_its_own_for_every_multiplier(costly: Journeys, tmp_path: Path):
    learner = learner_of("ag", costly, tmp_path, multipliers=(0.0, 2.0), alpha=0.3, **PRICED)
    batch, _, _ = seen(learner, costly)
    q, frozen = np.array([[0.2, 0.9], [0.8, 0.5]]), np.array([[4.0, 2.0], [5.0, 1.0]])
    constant(learner.network.values, q.flatten().tolist())
    constant(learner.target.values, frozen.flatten().tolist())
    constant(learner.network.cost, [0.0, 0.0])
    channel, gain, end = columns(costly)
    low, high = learner.transforms.reward_range
    expected = 0.0
    for multiplier, values, bootstrapped in zip((0.0, 2.0), q, (2.0, 5.0), strict=True):
        reward = (gain - multiplier * 0.05 * (channel == RIGHT)) / (high - low)
        reward /= spread_of(costly, multiplier) / spread_of(costly, 1.0)
        penalty = np.log(np.exp(values).sum()) - values[channel]
        y = reward + 0.9 * bootstrapped * ~end
        expected += (0.3 * penalty.mean() + 0.5 * ((values[channel] - y) ** 2).mean()) / 2
    found = learner.losses(batch)
    assert float(found["cost"].detach()) == pytest.approx(0.5, rel=1e-4)  # of a standardised cost and a mean of 0
    assert float((found["loss"] - found["cost"]).detach()) == pytest.approx(expected, rel=1e-5)


def test_ag_counts_the_costs_that_are_known(tmp_path: Path):
    of = chain_log(tmp_path / "j", 30, cost=0.05)
    cost = np.where(np.arange(of.n_steps) % 3 == 0, np.nan, np.asarray(of.column("cost")))
    holes = with_costs(of, cost, tmp_path / "holes")
    method = method_on(holes, "ag", tmp_path / "run", epochs=1)
    validation = whole(holes).parts["validation"]
    told = json.loads((tmp_path / "run" / "multipliers.json").read_text())
    assert told["budget"] == pytest.approx(np.nanmean(cost[validation]))
    assert np.isfinite(method.spend).all()


# What is learnt from, and what is refused.


def test_a_journey_cut_by_its_part_does_not_end_there_and_an_unknown_reward_teaches_nothing(tmp_path: Path):
    journeys = chain_log(tmp_path / "j", 30, seed=3)
    method = method_on(journeys, "discrete-cql", tmp_path / "run", epochs=1)
    steps = np.diff(np.asarray(journeys.offsets))
    user = int(np.flatnonzero(steps >= 5)[0])
    first = int(journeys.offsets[user])
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[first : first + 4] = True
    late = np.zeros(journeys.n_steps, dtype=bool)
    late[first + 1] = True
    cut = View(journeys, labels, None, (), late={"gain": late}).batch(np.array([0]))
    of = transitions(cut, ends_of(journeys), method.transforms, torch.device("cpu"))
    assert of.label[0].tolist() == [True] * 4
    assert of.learnt[0].tolist() == [True, False, True, False]  # the second's gain is not known, the last's next step
    assert not of.terminated.any()
    labels[first : int(journeys.offsets[user + 1])] = True
    whole_one = View(journeys, labels, None, ()).batch(np.array([0]))
    of = transitions(whole_one, ends_of(journeys), method.transforms, torch.device("cpu"))
    assert of.learnt.all() and of.terminated[0].tolist() == [False] * (steps[user] - 1) + [True]


def test_the_break_even_price_is_what_a_unit_of_cost_gains(costly: Journeys, short: Journeys, tmp_path: Path):
    method = method_on(costly, "ag", tmp_path / "run", epochs=1)
    _, gain, _ = columns(costly)
    assert break_even(method.transforms) == pytest.approx(gain.mean() / np.asarray(costly.column("cost")).mean())
    assert method.network.multipliers == pytest.approx([break_even(method.transforms) * s for s in ag.GRID])
    assert break_even(method_on(short, "ag", tmp_path / "free", epochs=1).transforms) == 0.0


@pytest.mark.parametrize("name", OWN)
def test_only_the_channel_is_scored_and_a_log_without_a_reward_in_time_is_refused(
    name: str, short: Journeys, tmp_path: Path
):
    method = METHODS[name]()
    assert wanted(method, short) == [Target("action")]

    class Late:
        path = "late"
        schema = dataclasses.replace(
            short.schema, gains=tuple(dataclasses.replace(g, known="never") for g in short.schema.gains)
        )

    with pytest.raises(UserError, match="no gain known in time"):
        method.check(Late())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("discrete-cql", {"alpha": -1.0}, "alpha = -1.0, expected 0 or more"),
        ("discrete-cql", {"target_rate": 0.0}, "target_rate = 0.0, expected above 0"),
        ("discrete-iql", {"tau": 1.0}, "tau = 1.0, expected between 0 and 1"),
        ("r-bcq", {"threshold": 1.0}, "threshold = 1.0"),
        (
            "r-bcq",
            {"most_multiplier": 0.1, "reward_target": "penalised"},
            "most_multiplier = 0.1, expected 0.5 or more",
        ),
        ("ag", {"multipliers": ()}, "multipliers"),
    ],
)
def test_a_config_that_means_nothing_is_refused(name: str, change: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        METHODS[name].config_type(**change)


def test_the_chain_is_what_its_docstring_says():
    best = optimal().argmax(axis=1)
    assert best.tolist() == [LEFT] * 2 + [RIGHT] * (STATES - 2)
