"""The compiled step of an mlp Titans memory equals the torch form, over boundaries and resets, for any sizes."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from embodied_mem.kernels.compiled.titans_mlp_step import GELU, titans_mlp_step
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.fast_weights import FastWeights
from embodied_mem.memory.titans import Titans


def build(dtype=torch.float64, **config):
    torch.manual_seed(0)
    sizes = {"in_dim": 6, "out_dim": 7, "memory": "mlp", "heads": 2, "key_dim": 5, "value_dim": 3, "expansion": 2}
    return make_memory("titans", **{**sizes, "chunk": 4, **config}).to(dtype)


def steps(memory, x, resets, **kwargs):
    state, outputs = memory.initial_state(len(x)), []
    for t in range(x.shape[1]):
        y, state = memory.step(x[:, t], state, resets[:, t], **kwargs)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"activation": "silu", "chunk": 1, "conv": 1},
        {"clip": float("inf"), "placement": "alone"},
        {"window": 1, "persistent": 0, "conv": 2},
    ],
)
def test_equals_the_torch_form(config, donate, monkeypatch):
    memory = build(**config)
    x, resets = 3 * torch.randn(3, 30, 6, dtype=torch.float64), torch.rand(3, 30) < 0.1
    with torch.no_grad():
        y, state = steps(memory, x, resets, donate=donate)
        monkeypatch.setattr(Titans, "forward_step", FastWeights.forward_step)
        want, held = steps(memory, x, resets, donate=donate)
    assert torch.allclose(y, want, rtol=1e-10, atol=1e-12)
    assert all(torch.allclose(state[key], held[key], rtol=1e-10, atol=1e-12) for key in held)


def test_equals_the_sequence_in_float32():
    memory = build(torch.float32, heads=4, key_dim=32, value_dim=32, expansion=4, chunk=16)
    x, resets = torch.randn(3, 70, 6), torch.rand(3, 70) < 0.05
    with torch.no_grad():
        y, state = steps(memory, x, resets)
        want, held = memory.sequence(x, None, resets)
    assert (y - want).norm() < 1e-5 * want.norm()
    assert all((state[key] - held[key]).float().norm() <= 1e-5 * held[key].float().norm() + 1e-6 for key in held)


def test_what_is_given_is_not_changed_unless_donated():
    memory = build()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    with torch.no_grad():
        _, state = steps(memory, x[:, :7], torch.zeros(2, 7, dtype=torch.bool))
        before = {key: value.clone() for key, value in state.items()}
        for t in (7, 8):
            memory.step(x[:, t], state)
        assert all(torch.equal(state[key], before[key]) for key in state)


def test_gradients_take_the_torch_form():
    memory = build()
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    y, _ = memory.step(x, memory.initial_state(2))
    y.sum().backward()
    assert x.grad.abs().sum() > 0


def test_every_slot_that_counts_is_written():
    """Slots from the present one on hold NaN: nothing of them may be read."""
    generator = np.random.default_rng(0)
    n, H, K, h, V, C = 2, 2, 3, 4, 5, 3
    draw = lambda *shape: generator.normal(size=shape)  # noqa: E731
    q, k, v = draw(n, H, K), draw(n, H, K), draw(n, H, V)
    gates = [generator.uniform(0.1, 0.9, (n, H)) for _ in range(3)]
    rings = [np.full((n, H, C, width), np.nan) for width in (K, h, h, V)]
    for ring in rings:
        ring[:, :, 0] = draw(*ring.shape[:2], ring.shape[3])
    kappa, mu = np.zeros((n, H, 2 + C)), np.zeros((n, H, 1 + C))
    kappa[..., :3], mu[..., :2] = 0.5, 0.5
    weights = [draw(n, H, K, h), draw(n, H, K, h), draw(n, H, h, V), draw(n, H, h, V)]
    phase, o = np.ones(n, np.int64), np.full((n, H, V), np.nan)
    titans_mlp_step(q, k, v, *gates, *weights, *rings, kappa, mu, phase, 0.1, GELU, o)
    assert np.isfinite(o).all() and (phase == 2).all()
    assert all(np.isfinite(ring[:, :, :2]).all() and np.isnan(ring[:, :, 2]).all() for ring in rings)
