"""Dropout keeps the mean, drops the share it is told, and repeats with the seed; `linear` is a layer of the whole."""

import pytest
import torch
from torch import nn

from headrace.nn.dropout import Dropout
from headrace.nn.mlp import linear


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(p):
    torch.manual_seed(0)
    x = torch.ones(999, 1001)
    found = Dropout(p)(x)
    assert abs(float((found == 0).float().mean()) - p) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    torch.testing.assert_close(found[found != 0], torch.full_like(found[found != 0], 1 / (1 - p)), atol=1e-3, rtol=1e-4)
    assert abs(float(found.mean()) - 1) < 0.01


def test_elements_are_dropped_apart_from_their_neighbours():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).float() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 0.25 * 5 / 400_000**0.5


def test_the_gradient_is_that_of_what_was_kept():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    assert ((x.grad == 0) == (out == 0)).all()
    torch.testing.assert_close(x.grad * x, out)


def test_nothing_is_dropped_outside_training_or_at_zero():
    x = torch.randn(50, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    with pytest.raises(ValueError, match=r"dropout 1\.0"):
        Dropout(1.0)


def test_the_same_seed_drops_the_same():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(Dropout(0.3)(torch.ones(100)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_layer_of_parts_is_that_of_the_whole():
    torch.manual_seed(0)
    layer = nn.Linear(9, 4)
    parts = [torch.randn(2, 3, width, requires_grad=True) for width in (2, 6, 1)]
    torch.testing.assert_close(linear(layer, *parts), layer(torch.cat(parts, dim=-1)))
