"""The inputs: bins say where a number stands, a number without knots has none, embeddings start where asked."""

import pytest
import torch

from headrace.nn.embed import Inputs, Piecewise


def test_a_number_becomes_its_place_among_the_knots():
    bins = Piecewise(((0.0, 1.0, 3.0), (), (5.0, 6.0, 8.0)))
    found = bins(torch.tensor([[-1.0, 9.0, 7.0], [0.5, 9.0, 5.0], [2.0, 9.0, 99.0]]))
    expected = [[0.0, 0.0, 1.0, 0.5], [0.5, 0.0, 0.0, 0.0], [1.0, 0.5, 1.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_bins_of_the_first_numbers_stand_first():
    inputs = Inputs([5], 3, knots=((0.0, 1.0, 3.0), (), (5.0, 6.0, 8.0)))
    x = inputs(torch.tensor([[[3]]]), torch.tensor([[[2.0, 0.0, 7.0]]]))
    assert x.shape[-1] == inputs.width == inputs.plain + 4
    assert inputs.up_to(2) == inputs.plain + 2
    torch.testing.assert_close(x[0, 0, inputs.plain : inputs.up_to(2)], torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(x[0, 0, inputs.up_to(2) :], torch.tensor([1.0, 0.5]))


def test_embeddings_start_with_the_spread_asked_for_and_padding_at_zero():
    torch.manual_seed(0)
    table = Inputs([4000], 0, start=0.1).tables[0].get_parameter("weight").detach()
    assert abs(float(table[1:].std()) - 0.1) < 0.005
    assert (table[0] == 0).all()


@pytest.mark.parametrize("size", [None, 4])
def test_a_log_without_categories_is_read_by_its_numbers(size: int | None):
    inputs = Inputs([], 2, unknown=0.5, size=size)
    numbers = torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(inputs(torch.zeros((1, 0), dtype=torch.int32), numbers), numbers)
    assert inputs.width == 2
