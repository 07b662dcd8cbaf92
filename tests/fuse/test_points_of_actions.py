"""Every action that enters a critic is a point of the action space, in every method and form."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from feed_logs import bandit
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headrace.fuse.actions import Actions, Form, point
from headrace.fuse.es import net
from headrace.fuse.learner import Learner
from headrace.fuse.methods import METHODS
from headrace.fuse.policy import points_of

FORMS = get_args(Form)
SPACE = {form: Actions((-2.0,) * 3, (2.0,) * 3, form) for form in FORMS}


def is_a_point(action: Tensor, form: Form) -> bool:
    whole = {"unit": torch.linalg.vector_norm(action, dim=-1), "simplex": ((action + 1) / 2).sum(-1)}
    fits = torch.ones(()) if form == "box" else whole[form]
    return bool((action.abs() <= 1 + 1e-6).all() and torch.allclose(fits, torch.ones_like(fits), atol=1e-5))


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
@example([0.0, 0.0, 0.0])  # no direction
@example([-1.0, -1.0, -1.0])  # a sum of nothing
def test_a_point_stands_for_the_same_weights_and_stays(form: Form, action: list[float]):
    raw = torch.tensor(action)
    found = point(raw, form)
    assert is_a_point(found, form)
    assert torch.allclose(point(found, form), found, atol=1e-5)
    assert np.allclose(SPACE[form].weights(found.numpy()), SPACE[form].weights(raw.numpy()), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, -1.0, 0.4])
def test_gradients_through_a_point_are_finite(form: Form, value: float):
    action = torch.full((2, 3), value, requires_grad=True)
    point(action, form).square().sum().backward()
    assert action.grad is not None and torch.isfinite(action.grad).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if hasattr(m, "learner_type")])
def test_critics_see_points_of_the_action_space_alone(name: str, form: Form):
    rng = np.random.default_rng(0)
    logged = SPACE[form].scaled(SPACE[form].weights(rng.uniform(-1, 1, (80, 3))))
    kind = METHODS[name]
    config = kind.config_type(**kind.presets["tiny"], form=form)
    learner: Learner = kind.learner_type(bandit(logged, rng.normal(size=80)), config)
    seen: list[bool] = []

    def look(critic: object, given: tuple[Tensor, Tensor]) -> None:
        seen.append(is_a_point(given[1], form))

    for critic in (learner.critic, learner.critic_target):
        critic.register_forward_pre_hook(look)
    torch.manual_seed(0)
    for batch in learner.replay.batches(16, 6, 0):
        goes_on = torch.zeros_like(batch.terminated)  # so that targets count
        learner.step(dataclasses.replace(batch, terminated=goes_on))
    learner.validate()
    assert len(seen) > 12 and all(seen)
    assert is_a_point(learner.act(learner.replay.state), form)


@pytest.mark.parametrize("form", FORMS)
def test_a_searchs_policy_gives_points_too(form: Form):
    raw = net(np.full(2 * 3, 0.7), np.ones((4, 1)))
    assert is_a_point(torch.from_numpy(points_of(raw, form)(np.ones((5, 4), np.float32))), form)
