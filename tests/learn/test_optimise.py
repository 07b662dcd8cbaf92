import pytest
import torch
from torch import nn

from headrace.errors import UserError
from headrace.learn.optimise import Optimiser, OptimiserConfig, choose_device, has_bf16, rate

FULL = OptimiserConfig(0.01, schedule="cosine", warmup_steps=3, total_steps=20, average=0.9)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 1))


def steps(module, optimiser, count, start=0):
    for step in range(start, start + count):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        with optimiser.autocast():
            loss = (module(x) - x.sum(1, keepdim=True)).square().mean()
        optimiser.minimise(loss)
    return float(loss.detach())


def test_a_plain_step_is_adamw():
    module, twin = net(), net()
    steps(module, Optimiser(module, OptimiserConfig(0.01, clip=None, weight_decay=0.0)), 5)
    adamw = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0)
    for step in range(5):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        adamw.zero_grad()
        (twin(x) - x.sum(1, keepdim=True)).square().mean().backward()
        adamw.step()
    assert all(map(torch.equal, module.parameters(), twin.parameters()))


def test_weights_may_learn_at_a_share_of_the_rate():
    """With weight decay alone at work, each step shrinks a weight by its own rate."""
    module = net()
    before = [weight.detach().clone() for weight in module.parameters()]
    optimiser = Optimiser(module, OptimiserConfig(0.1, weight_decay=0.5, clip=None), {"2.": 0.2, "0.bias": 0.0})
    optimiser.minimise(sum(0.0 * weight.sum() for weight in module.parameters()))
    first, bias, scale, shift, last, last_bias = zip(before, module.parameters(), strict=True)
    torch.testing.assert_close(first[1], first[0] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(last[1], last[0] * (1 - 0.2 * 0.1 * 0.5))
    assert all(torch.equal(old, new) for old, new in (bias, scale, shift, last_bias))
    steps(module, optimiser, 1)
    assert torch.equal(bias[0], bias[1]) and not torch.equal(last_bias[0], last_bias[1])


def test_it_goes_on_from_its_state_bit_for_bit():
    module = net()
    optimiser = Optimiser(module, FULL)
    steps(module, optimiser, 6)
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors, values = optimiser.state()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    steps(module, optimiser, 6, start=6)

    twin = net(1)
    twin_optimiser = Optimiser(twin, FULL)
    steps(twin, twin_optimiser, 2)
    twin.load_state_dict(weights)
    twin_optimiser.load((tensors, values))
    steps(twin, twin_optimiser, 6, start=6)
    assert all(map(torch.equal, module.parameters(), twin.parameters()))
    ours, theirs = optimiser.state()[0], twin_optimiser.state()[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_state_taken_before_the_first_step_forgets_later_moments():
    module = net()
    optimiser = Optimiser(module, FULL)
    fresh = optimiser.state()
    fresh = ({name: tensor.clone() for name, tensor in fresh[0].items()}, fresh[1])
    steps(module, optimiser, 2)
    optimiser.load(fresh)
    assert optimiser.steps == 0
    assert not any(name.startswith("moments/") for name in optimiser.state()[0])


def test_a_large_gradient_is_clipped():
    module = net()
    optimiser = Optimiser(module, OptimiserConfig(clip=0.5))
    norm = optimiser.minimise((module(torch.ones(1, 3)) * 1000).sum())
    left = torch.cat([weight.grad.flatten() for weight in module.parameters()]).norm()
    assert norm > 100
    assert float(left) == pytest.approx(0.5, rel=1e-3)


def test_matrices_decay_and_biases_do_not():
    module = net()
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    optimiser = Optimiser(module, OptimiserConfig(0.1, weight_decay=0.5))
    optimiser.minimise(sum(weight.sum() for weight in module.parameters()) * 0)
    for name, weight in module.named_parameters():
        shrunk = 1 - 0.1 * 0.5 if weight.dim() >= 2 else 1.0
        assert torch.allclose(weight, before[name] * shrunk)


def test_the_average_is_used_within_and_the_own_weights_come_back():
    module = net()
    optimiser = Optimiser(module, OptimiserConfig(0.1, average=0.5))
    start = module[0].weight.detach().clone()
    steps(module, optimiser, 1)
    own = module[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="in the midst"), optimiser.averaged():
        assert torch.allclose(module[0].weight, start + 0.9 * (own - start))  # kept: min(.5, 1 / 10)
        raise RuntimeError("in the midst")
    assert torch.equal(module[0].weight, own)
    plain = Optimiser(module, OptimiserConfig())
    with plain.averaged():
        assert torch.equal(module[0].weight, own)


def test_bf16_is_off_unless_asked_for():
    module = net()
    for precision, expected in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with Optimiser(module, OptimiserConfig(precision=precision)).autocast():
            assert module[0](torch.ones(1, 3)).dtype == expected
    assert Optimiser(module, OptimiserConfig(precision="auto")).bf16 == has_bf16(torch.device("cpu"))


def test_bf16_trains_and_keeps_float32_weights():
    module = net()
    optimiser = Optimiser(module, OptimiserConfig(0.05, precision="bf16"))
    first = steps(module, optimiser, 1)
    assert steps(module, optimiser, 60, start=1) < first / 2
    assert module[0].weight.dtype == torch.float32


def test_the_rate_warms_up_and_falls_to_a_tenth():
    rates = [rate(FULL, step) for step in range(25)]
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert rates[3:21] == sorted(rates[3:21], reverse=True)
    assert rates[20:] == pytest.approx([0.001] * 5)
    assert {rate(OptimiserConfig(0.01), step) for step in range(9)} == {0.01}


def test_frozen_weights_stay():
    module = net()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    steps(module, Optimiser(module, FULL), 3)
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate = 0.0, expected more than 0"),
        ({"clip": -1.0}, "clip = -1.0, expected more than 0, or None"),
        ({"average": 1.0}, "average = 1.0, expected between 0 and 1"),
        ({"schedule": "cosine"}, "total_steps = None, expected more than warmup_steps = 0"),
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        OptimiserConfig(**wrong)


def test_devices_are_chosen_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="device 'gpu': no such device"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device 'cuda': torch finds no accelerator here"):
            choose_device("cuda")
