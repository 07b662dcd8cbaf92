"""The causal convolution reads t, t - d, t - 2d, and nothing else (equation 5, corrected)."""

import torch

from headrace.nn.tcn import TCN, CausalConv


def test_the_dilated_index_is_t_minus_d_times_i() -> None:
    torch.manual_seed(0)
    conv = CausalConv(width=1, kernel=3, dilation=2)
    silent = conv(torch.zeros(1, 9, 1))
    impulse = torch.zeros(1, 9, 1)
    impulse[0, 3, 0] = 1.0
    heard = (conv(impulse) - silent)[0, :, 0]
    assert torch.nonzero(heard).ravel().tolist() == [3, 5, 7]  # h_{t - d - i} would be heard at 5, 6, 7
    weight = conv.conv.weight[0, 0]
    torch.testing.assert_close(heard[[3, 5, 7]], weight.flip(0))


def test_a_step_reaches_as_far_as_its_layers() -> None:
    torch.manual_seed(0)
    tcn = TCN(width=4, layers=2, kernel=3, dropout=0.0).eval()
    mask = torch.ones(1, 12, dtype=torch.bool)
    x = torch.randn(1, 12, 4)
    other = x.clone()
    other[0, 2] += 1.0
    changed = (tcn(x, mask) - tcn(other, mask)).abs().sum(-1)[0] > 0
    assert torch.nonzero(changed).ravel().tolist() == list(range(2, 9))  # 2 + (3 - 1) * (1 + 2)
