"""Offline-RL losses as plain functions, tensors in and loss out, and the slow target network. No method lives here.

N networks (any number of leading dimensions, none included), B rows, k actions a row. A loss is the mean over the rows:
(..., B) -> (...); the sum over networks trained side by side gives each its own gradient. Losses are to be made small:
Zhang et al. 2022 print argmax in (10) and Algorithm 2, which would drive Q away from its target; it is argmin.
"""

import math

import torch
from torch import Tensor, nn


def expected_value(q: Tensor, weights: Tensor) -> Tensor:
    """E_{a ~ pi} Q: (..., B, k), (..., B, k) -> (..., B).

    The weights are pi(a|s) where the k actions are all there are, 1/k where they were sampled from pi. (9) of Zhang et
    al. 2022 samples a ~ pi and weights by pi(a|s) again, which counts pi twice.

    >>> expected_value(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.25, 0.75]]))
    tensor([2.5000])
    """
    return (q * weights).sum(-1)


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    """y = r + gamma (1 - d) V(s'), without a gradient, (..., B) each; `terminated` is boolean.

    V(s') = E_{a' ~ pi(.|s')} Qbar(s', a') of the frozen copy Qbar: Algorithm 2 of Zhang et al. 2022 prints pi(s) for
    pi(s') and the network in training for Qbar, and no mask d at all. A truncated step is no terminal one, its next
    state was there: only `terminated` ends the sum. What V gives behind the end is never read, NaN included.

    >>> td_target(torch.ones(2), torch.full((2,), 10.0), torch.tensor([False, True]), 0.5)
    tensor([6., 1.])
    """
    return (reward + gamma * torch.where(terminated, torch.zeros_like(next_value), next_value)).detach()


def fitted_q_loss(q: Tensor, target: Tensor) -> Tensor:
    """1/2 E (Q(s, a) - y)^2: (..., B), (..., B) -> (...). Le et al. 2019; the second term of (10)."""
    return 0.5 * (q - target.detach()).square().mean(-1)


def policy_penalty(q_policy: Tensor, weights: Tensor, q_data: Tensor) -> Tensor:
    """E_{s, a ~ pi} Q - E_D Q: (..., B, k), (..., B, k), (..., B) -> (...).

    R of (10) in Zhang et al. 2022; both expectations over the same states. It presses on what pi does and the log does
    not, which is right for the value of one given policy.
    """
    return expected_value(q_policy, weights).mean(-1) - q_data.mean(-1)


def logsumexp_penalty(q_all: Tensor, q_data: Tensor) -> Tensor:
    """E_s [log sum_a exp Q(s, a)] - E_D Q over all k discrete actions: (..., B, k), (..., B) -> (...).

    CQL(H), Kumar et al. 2020 (4): it presses on whatever has a high Q, for learning a policy.
    """
    return (q_all.logsumexp(-1) - q_data).mean(-1)


def conservative_loss(q: Tensor, target: Tensor, penalty: Tensor, alpha: float) -> Tensor:
    """alpha R + 1/2 E (Q - y)^2, to be minimised: (10) of Zhang et al. 2022, which prints argmax. -> (...)."""
    return alpha * penalty + fitted_q_loss(q, target)


def actor_loss(q: Tensor, before: Tensor, saturation: float) -> Tensor:
    """-mean Q / mean |Q| + saturation * mean x^2, x what stands before a policy's tanh: (B,), (..., K) -> ().

    Q pushes an action towards a bound for as long as it rises that way, and behind the bend of tanh no gradient is left
    to turn it back or to tell states apart; the square keeps it in reach (Andrychowicz et al. 2017, appendix A).
    """
    found: Tensor = -q.mean() / q.detach().abs().mean().clamp(min=1e-6)
    return found + saturation * before.square().mean()


@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move the target's weights by `rate` of the way to the source's; 1 copies them. Buffers are copied."""
    ours: list[Tensor] = list(target.parameters())
    theirs: list[Tensor] = list(source.parameters())
    torch._foreach_lerp_(ours, theirs, rate)
    for kept, buffer in zip(target.buffers(), source.buffers(), strict=True):
        kept.copy_(buffer)


def double_q(q: Tensor, lower: float = 1.0) -> Tensor:
    """Twin critics as one: lower * min + (1 - lower) * max, (2, ...) -> (...).

    lower = 1 is clipped double Q (Fujimoto et al. 2018; min of (7) in Zhang et al. 2022), .75 BCQ's own soft form.

    >>> double_q(torch.tensor([[1.0], [3.0]]), 0.75)
    tensor([1.5000])
    """
    return lower * q.min(0).values + (1 - lower) * q.max(0).values


def vae_loss(decoded: Tensor, action: Tensor, mean: Tensor, log_sd: Tensor, kl_weight: float) -> Tensor:
    """(3) of Zhang et al. 2022: reconstruction and kl_weight * KL(N(mean, sd) | N(0, 1)), means over rows and axes."""
    kl = -0.5 * (1 + 2 * log_sd - mean.square() - (2 * log_sd).exp()).mean()
    return (decoded - action).square().mean() + kl_weight * kl


def weighted_q_loss(q: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1/2 E w (Q - y)^2, the weight outside the square: (..., B), (..., B), (B,) -> (...)."""
    return 0.5 * (weight.detach() * (q - target.detach()).square()).mean(-1)


def certainty(q: Tensor, beta: float, form: str = "ratio") -> Tensor:
    """UWAC's weight from P dropout passes (P, B) -> (B,): clamp(beta / Var, 0, 1), or exp(-beta Var), "exp".

    Wu et al. 2021 print the first, their code's default is the second.

    >>> certainty(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), 1.0)
    tensor([0.5000, 1.0000])
    """
    variance = q.var(0)
    if form == "exp":
        return (-beta * variance).exp().detach()
    return (beta / variance.clamp(min=1e-12)).clamp(0, 1).detach()


def expectile_loss(value: Tensor, q: Tensor, tau: float) -> Tensor:
    """E |tau - 1[Q < V]| (Q - V)^2: IQL, Kostrikov et al. 2022 (5). (..., B), (..., B) -> (...)."""
    away = q.detach() - value
    return (torch.where(away < 0, 1 - tau, tau) * away.square()).mean(-1)


def advantage_weight(q: Tensor, value: Tensor, beta: float, most: float) -> Tensor:
    """exp(beta (Q - V)), at most `most`, without a gradient: IQL, Kostrikov et al. 2022 (7). (...), (...) -> (...).

    >>> advantage_weight(torch.tensor([0.0, 1.0]), torch.tensor([0.0, -9.0]), 1.0, 100.0)
    tensor([  1., 100.])
    """
    return (beta * (q - value)).exp().clamp(max=most).detach()


def convex_shares(heads: int, device: torch.device | None = None) -> Tensor:
    """(K,) random shares of K heads that add up to 1, a uniform draw each over their sum.

    Random ensemble mixture, REM: Agarwal et al. 2020, section 4.2. Draws from torch's default generator.
    """
    drawn = torch.rand(heads, device=device)
    return drawn / drawn.sum()


def mixed(q: Tensor, shares: Tensor) -> Tensor:
    """sum_k share_k Q_k, REM's one Q-function of K heads: (K, ...), (K,) -> (...).

    >>> mixed(torch.tensor([[1.0], [5.0]]), torch.tensor([0.75, 0.25]))
    tensor([2.])
    """
    return torch.einsum("k...,k->...", q, shares)


def within_behaviour(logits: Tensor, threshold: float) -> Tensor:
    """Whether pi_b(a|s) / max_a pi_b(a|s) >= threshold, of the logits of pi_b: (..., M) -> (..., M) booleans.

    Discrete BCQ, Fujimoto et al. 2019b (Benchmarking batch deep RL): no other action is chosen. 0 leaves all, 1 the
    most likely one alone.

    >>> within_behaviour(torch.tensor([0.6, 0.3, 0.1]).log(), 0.4)
    tensor([ True,  True, False])
    """
    return logits - logits.max(-1, keepdim=True).values >= (math.log(threshold) if threshold > 0 else -math.inf)


def sampled_logsumexp_penalty(q: Tensor, log_density: Tensor, q_data: Tensor) -> Tensor:
    """E_s log E_{a ~ mu} exp Q / mu - E_D Q over k sampled actions: (..., B, k), (B, k), (..., B) -> (...).

    CQL(H) for continuous actions, Kumar et al. 2020, appendix F: the sum over actions by importance sampling.
    """
    k = q.shape[-1]
    return ((q - log_density.detach()).logsumexp(-1) - math.log(k) - q_data).mean(-1)
