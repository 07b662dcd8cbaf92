"""Critics: on a session process that can be solved by hand they learn its values; returns, targets and terminals."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from headrace.learn.optimise import OptimiserConfig
from headrace.predict.backbones import Sizes
from headrace.predict.critics import Critic, CriticLearner, Critics, returns, rewards, values
from headrace.predict.table import Table
from headrace.predict.tasks import parse

GAMMA = 0.9
ACTION = np.array([[0.3, 0.1], [0.6, 0.5], [0.8, 0.2]])  # (states, K) what the actor says
CHANCE = np.array([[0.2, 0.1], [0.7, 0.3], [0.5, 0.4]])  # (states, K) of each label
MOVE = np.array([[0.0, 0.6, 0.2], [0.3, 0.0, 0.3], [0.1, 0.1, 0.3]])  # to the next state; else the session ends


class TwoTasks:
    """As much of `Features` as a network asks for: three states in one column."""

    tasks = parse("a=x,b=y")
    cardinalities = [3]  # noqa: RUF012
    width = 0
    knots = ()


def closed_form() -> np.ndarray:
    """(states, K): Q = r + gamma P Q."""
    reward = CHANCE * np.log(ACTION) + (1 - CHANCE) * np.log(1 - ACTION)
    return np.linalg.solve(np.eye(3) - GAMMA * MOVE, reward)


def walks(sessions: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    state, session, position, last = [], [], [], []
    for m in range(sessions):
        s, t = int(rng.integers(3)), 0
        while True:
            state.append(s)
            session.append(m)
            position.append(t)
            moves = rng.random() - np.cumsum(MOVE[s])
            over = bool((moves >= 0).all())
            last.append(over)
            if over:
                break
            s, t = int(np.argmax(moves < 0)), t + 1
    at = np.array(state)
    labels = torch.from_numpy((rng.random((len(at), 2)) < CHANCE[at]).astype(np.float32))
    return Table(
        np.arange(len(at)),
        torch.from_numpy(at[:, None].astype(np.int32)),
        torch.zeros(len(at), 0),
        labels,
        torch.ones_like(labels),
        np.array(session),
        torch.tensor(position),
        torch.tensor(last),
    )


def logits(held: Table) -> Tensor:
    return torch.from_numpy(ACTION[held.ids[:, 0].numpy()]).float().logit()


def learnt(sessions: int, steps: int, **change: object) -> tuple[np.ndarray, CriticLearner]:
    torch.manual_seed(0)
    sizes = Sizes(width=32, experts=1, embedding=4, dropout=0.0)
    critic = Critic(sizes, TwoTasks())  # type: ignore[arg-type]
    optimiser = OptimiserConfig(3e-3, 0.0, schedule="cosine", total_steps=steps)
    critics = Critics(critic, optimiser, GAMMA, 0.05)
    train = walks(sessions, 1)
    learner = CriticLearner(critics, train, logits(train), 512)
    done = epoch = 0
    while done < steps:
        for batch in learner.batches(epoch):
            learner.step(batch)
            done += 1
        epoch += 1
    every = dataclasses.replace(walks(1, 0), ids=torch.arange(3, dtype=torch.int32)[:, None], numbers=torch.zeros(3, 0))
    every = dataclasses.replace(every, rows=np.arange(3))
    return values(critic, every, torch.from_numpy(ACTION).float()).numpy(), learner


def test_learnt_values_are_the_closed_form_of_a_tabular_session_process():
    q, _ = learnt(sessions=6_000, steps=1_200)
    np.testing.assert_allclose(q, closed_form(), atol=0.06)


def test_validation_measures_the_distance_from_what_sessions_brought():
    q, learner = learnt(sessions=2_000, steps=400)
    found = learner.validate()
    truth = closed_form()[learner.train.ids[learner.watched, 0].numpy()]
    noise = ((learner.brought.numpy() - truth) ** 2).mean()
    assert found["return_mse"] == pytest.approx(noise, rel=0.05)
    assert found["return"] == pytest.approx(float(learner.brought.mean()))
    assert found["q"] == pytest.approx(truth.mean(), rel=0.1)
    assert (q < 0).all()


def test_sessions_that_tell_when_to_stop_are_whole_and_not_learnt_from():
    _, learner = learnt(sessions=300, steps=3)
    watched = set(learner.train.session[learner.watched.numpy()])
    assert len(watched) == 30
    assert len(learner.watched) == np.isin(learner.train.session, list(watched)).sum()
    drawn = {
        int(s) for epoch in range(3) for batch in learner.batches(epoch) for s in learner.train.session[batch.numpy()]
    }
    assert not drawn & watched and len(drawn) == 270


def test_a_return_ends_with_its_session():
    held = walks(200, 3)
    r = torch.rand(len(held), 2)
    found = returns(r, held.position, held.last, GAMMA)
    expected = r.clone()
    for i in range(len(held) - 2, -1, -1):
        if not held.last[i]:
            expected[i] += GAMMA * expected[i + 1]
    torch.testing.assert_close(found, expected)


def test_the_reward_is_minus_the_cross_entropy():
    z, y = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    p = z.sigmoid()
    torch.testing.assert_close(rewards(z, y), y * p.log() + (1 - y) * (1 - p).log())


def test_what_stands_behind_a_terminal_row_is_never_read():
    torch.manual_seed(0)
    sizes = Sizes(width=8, experts=1, embedding=2, dropout=0.0)
    held = walks(40, 4)
    ends = torch.where(held.last)[0]
    found = []
    for poison in (0.5, float("nan")):
        torch.manual_seed(0)
        critics = Critics(Critic(sizes, TwoTasks()), OptimiserConfig(1e-2), GAMMA, 0.5)  # type: ignore[arg-type]
        actions, after = logits(held).sigmoid()[ends], torch.full((len(ends), 2), poison)
        critics.update(held, ends, actions, after, torch.full((len(ends), 2), -1.0))
        found.append(critics.critic.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_values_move_towards_their_target():
    """(14) as printed moves them away."""
    q, learner = learnt(sessions=100, steps=1)
    held = learner.train
    at = torch.where(held.last)[0]
    goal = torch.full((len(at), 2), -3.0)
    actions = learner.actions[at]

    def distance() -> float:
        now = values(learner.critics.critic, held, learner.actions)[at]
        return float((now - goal).square().mean())

    before = distance()
    for _ in range(20):
        learner.critics.update(held, at, actions, actions, goal)
    assert distance() < before
    assert q.shape == (3, 2)


def test_a_critic_with_the_printed_output_can_be_born_dead_and_ours_cannot():
    sizes = Sizes(width=8, experts=1, embedding=2, dropout=0.0)
    held = walks(40, 4)
    grown = {}
    for output in ("relu", "softplus"):
        torch.manual_seed(0)
        critic = Critic(sizes, TwoTasks(), output)  # type: ignore[arg-type]
        with torch.no_grad():
            for tower in critic.towers:
                tower.out.bias.fill_(-5.0)
        critics = Critics(critic, OptimiserConfig(1e-2, 0.0), GAMMA, 0.5)
        at = torch.arange(len(held))
        actions, goal = logits(held).sigmoid(), torch.full((len(held), 2), -1.0)
        for _ in range(100):
            critics.update(held, at, actions, actions, goal)
        grown[output] = float(values(critic, held, actions).mean())
    assert grown["relu"] == 0.0
    assert grown["softplus"] < -0.3
