"""Wide & Deep's own promises: a cross fires where all of its ids do, and both parts make one sum."""

from itertools import product

import numpy as np
import pytest
import torch
from channel_logs import small_log

from headrace.channel.fitting import tensors
from headrace.channel.wide_deep import PRESETS, Network, Wide, WideDeep, WideDeepConfig, columns, crosses_of
from headrace.errors import UserError
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import histories

TINY = WideDeepConfig(**PRESETS["tiny"])


@pytest.fixture(scope="module")
def journeys(tmp_path_factory):
    return small_log(tmp_path_factory.mktemp("log") / "j")


@pytest.fixture
def read(journeys):
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    torch.manual_seed(0)
    network = Network(TINY, transforms).eval()
    return network, tensors(transforms.encode(histories(journeys, np.arange(40), 8)), torch.device("cpu"))


def test_the_columns_are_those_that_are_encoded(journeys):
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    assert columns(transforms.schema, transforms.vocabularies) == ["half", "topic", "channel", "grade"]
    assert len(transforms.cardinalities) == 4


def test_a_cross_is_the_and_of_its_ids_and_the_candidate():
    """One weight a combination: of all ids and candidates only the one whose weight is set is moved."""
    wide = Wide([6, 5], [(0, 1)], channels=3, buckets=2**16, out=2)
    ids = torch.tensor(list(product(range(6), range(5))))[None]  # (1, 30, 2)
    places = wide.places(ids)[0, ..., 0]  # (30, M + 1)
    assert len(places.unique()) == places.numel()  # no two share a bucket, the candidate that is none included
    with torch.no_grad():
        wide.crossed.weight[places[7, 2]] = torch.tensor([5.0, -1.0])  # ids (1, 2), candidate 2
    found = wide(ids)[0]
    assert found[7, 2].tolist() == [5.0, -1.0]
    found[7, 2] = 0
    assert not found.any()


def test_the_linear_part_is_the_sum_of_its_weights():
    wide = Wide([6, 5], [(0,), (0, 1)], channels=3, buckets=2**16, out=1)
    torch.manual_seed(1)
    for table in (*wide.plain, wide.candidate, wide.crossed):
        torch.nn.init.normal_(table.weight)
    ids = torch.tensor([[[3, 4], [5, 1]]])
    places, found = wide.places(ids), wide(ids)
    for t, c in product(range(2), range(4)):
        a, b = ids[0, t]
        crossed = sum(wide.crossed.weight[places[0, t, c, k]] for k in range(2))
        by_hand = wide.plain[0].weight[a] + wide.plain[1].weight[b] + wide.candidate.weight[c] + crossed
        torch.testing.assert_close(found[0, t, c], by_hand)


def test_both_parts_are_summed_and_learn_together(read):
    network, encoded = read
    torch.nn.init.normal_(network.wide.crossed.weight)
    state = network(*encoded)
    with torch.no_grad():
        x = network.read_step(network.inputs(*encoded[:2]))
        for c in range(3):
            h = network.deep(torch.relu(x + network.read_candidate(network.candidate.weight[c])))
            by_hand = network.out(h) + network.wide(encoded[0])[..., c, :]
            torch.testing.assert_close(network.action(state)[..., c], by_hand[..., 0])
            torch.testing.assert_close(network.rewards(state)[..., c, :], by_hand[..., 1:])
            torch.testing.assert_close(network.reward(state, torch.full(x.shape[:2], c)), by_hand[..., 1:])
    torch.log_softmax(network.action(state), dim=-1)[..., 0].mean().backward()
    assert network.wide.crossed.weight.grad.any() and network.deep is not None and network.out.weight.grad.any()


def test_what_is_not_crossed_with_the_candidate_moves_rewards_and_not_the_choice(read):
    network, encoded = read
    state = network(*encoded)
    with torch.no_grad():
        network.wide.plain[1].weight.fill_(3.0)
        again = network(*encoded)
        torch.testing.assert_close(network.action(state).softmax(-1), network.action(again).softmax(-1))
        torch.testing.assert_close(network.rewards(state) + 3, network.rewards(again))


def test_crosses_of_unknown_columns_are_refused(journeys):
    assert crosses_of("half*channel,topic", ["half", "topic", "channel"]) == [(0, 2), (1,)]
    with pytest.raises(UserError, match=r"crosses: unknown column 'topik', did you mean 'topic'"):
        WideDeep(WideDeepConfig(crosses="half*topik")).check(journeys)
    with pytest.raises(UserError, match="unknown column 'topic'"):
        WideDeep(WideDeepConfig(crosses="topic", categories="numbers")).check(journeys)  # it is read as a number there
