"""GRU4Rec and SASRec: the recurrence and the attention as their papers print them, step by step by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from channel_logs import small_log

from headrace.channel import gru4rec, sasrec
from headrace.channel.fitting import tensors
from headrace.errors import UserError
from headrace.journeys.scales import FIRST
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import histories


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    journeys = small_log(tmp_path_factory.mktemp("log") / "j")
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    encoded = transforms.encode(histories(journeys, np.array([7, 12, 23]), 8))  # of 8, 5 and 8 steps
    return transforms, tensors(encoded, torch.device("cpu"))


def test_the_state_of_gru4rec_is_the_gated_recurrence(given):
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(W x + r (U h_{t-1})): nothing of step t is in h_{t-1}."""
    transforms, encoded = given
    torch.manual_seed(0)
    network = gru4rec.Network(gru4rec.GRU4RecConfig(**gru4rec.PRESETS["tiny"]), transforms).eval()
    with torch.no_grad():
        state = network(*encoded)[..., :8]
        x = network.embed(network.inputs(*encoded[:2])[..., : network.token])
        w, u = network.recur.weight_ih_l0.chunk(3), network.recur.weight_hh_l0.chunk(3)
        b, c = network.recur.bias_ih_l0.chunk(3), network.recur.bias_hh_l0.chunk(3)
        h = torch.zeros(3, 8)
        for t in range(8):
            r, z = ((x[:, t] @ w[k].T + b[k] + h @ u[k].T + c[k]).sigmoid() for k in (0, 1))
            n = (x[:, t] @ w[2].T + b[2] + r * (h @ u[2].T + c[2])).tanh()
            h = (1 - z) * n + z * h
            there = encoded[2][:, t]
            torch.testing.assert_close(state[there, t], h[there])
        torch.testing.assert_close(network.action(network(*encoded)).shape, torch.Size((3, 8, 3)))


def test_the_state_of_sasrec_is_attention_over_the_steps_so_far(given):
    """Equations (1) to (4) and (6), norms in front and residuals around, one head, journey by journey."""
    transforms, encoded = given
    torch.manual_seed(0)
    config = sasrec.SASRecConfig(**(sasrec.PRESETS["tiny"] | {"blocks": 2}))
    network = sasrec.Network(config, transforms).eval()
    ids, numbers, mask = encoded
    with torch.no_grad():
        state, inputs = network(*encoded), network.inputs(ids, numbers)
        for b in range(3):
            T = int(mask[b].sum())
            x = network.embed(inputs[b, :T, : network.token])
            x = x + network.channel.weight[ids[b, :T, network.before]] + network.position.weight[:T]  # (1)
            for block in network.blocks:
                q, k, v = (block.norms[0](x) @ block.attention.qkv.weight.T).chunk(3, dim=-1)
                attended = torch.stack(
                    [F.softmax(q[t] @ k[: t + 1].T / math.sqrt(8), dim=-1) @ v[: t + 1] for t in range(T)]
                )  # (2), (3)
                x = x + attended
                x = x + block.back(torch.relu(block.wide(block.norms[1](x))))  # (4)
            f = network.norm(x)
            torch.testing.assert_close(state[b, :T, :8], f, rtol=1e-4, atol=1e-5)
            logits = f @ network.channel.weight[FIRST:].T + network.choose(inputs[b, :T, : network.inputs.plain])  # (6)
            torch.testing.assert_close(network.action(state)[b, :T], logits, rtol=1e-4, atol=1e-5)


def test_steps_beyond_the_last_position_share_it(given):
    transforms, encoded = given
    config = dataclasses.replace(sasrec.SASRecConfig(**sasrec.PRESETS["tiny"]), length=4)
    network = sasrec.Network(config, transforms).eval()
    assert network.position.num_embeddings == 4
    with torch.no_grad():
        before = network(*encoded)
        network.position.weight[3] += 1.0
        after = network(*encoded)
    same = [torch.equal(before[0, t], after[0, t]) for t in range(8)]
    assert same == [True] * 3 + [False] * 5


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(UserError, match="hidden = 64 is no multiple of heads = 3"):
        sasrec.SASRecConfig(heads=3)
