"""A whole policy step and a whole training step give the same numbers whatever ``EMBODIED_MEM_KERNELS`` says.

`auto` on a CPU and the registered operators run here; Triton's kernels run under the interpreter in a process of its
own, which is this file (`python test_agent_step.py FILE`), and on a GPU where there is one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.kernels import reset_stats, stats, use_backend

# the kernels and their other tests need torch, triton, numpy and pytest alone
spaces = pytest.importorskip("gymnasium").spaces

from embodied_mem.agent import AgentConfig, MemoryAgent  # noqa: E402
from embodied_mem.config import from_dict  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SPACE = spaces.Dict({"vector": spaces.Box(-1.0, 1.0, (6,)), "rgb": spaces.Box(0, 255, (8, 8, 3), dtype="uint8")})
SMALL = {"heads": 2, "key_dim": 4, "value_dim": 4, "chunk": 4}
MEMORIES = {
    "min_gru": {},
    "gated_delta": SMALL,
    "gla": SMALL,
    "hcam": {},
    "perceptual_cognitive_bank": {},
    "product_key_memory": {},
    "titans": {**SMALL, "window": 4},
}
# float32 after an update by Adam, whose step is the sign of a gradient where that is small
LIMITS = {"outputs": 1e-5, "state": 1e-5, "loss": 1e-5, "grads": 5e-5, "after": 1e-4}


def steps(name, device="cpu"):
    """Rollout of 3 steps, one PPO-like update over 2 rows of 7 tokens, one step after it."""
    torch.manual_seed(0)
    config = {"memory": name, "memory_config": {"out_dim": 12, **MEMORIES[name]}, "encoder": {"out_dim": 10}}
    agent = MemoryAgent.build(from_dict(AgentConfig, config), SPACE, spaces.Discrete(3)).to(device)
    torch.nn.init.normal_(agent.head.out.weight, std=0.3)
    g = torch.Generator().manual_seed(1)
    rgb = torch.randint(0, 255, (2, 7, 8, 8, 3), generator=g, dtype=torch.uint8)
    obs = {"vector": torch.randn(2, 7, 6, generator=g).to(device), "rgb": rgb.to(device)}
    resets = (torch.rand(2, 7, generator=g) < 0.2).to(device)
    action, advantage, target = (torch.randn(2, 7, generator=g).to(device) for _ in range(3))
    state, outputs = agent.initial_state(2, device), []
    with torch.no_grad():
        for t in range(3):
            logits, value, state = agent.step({key: x[:, t] for key, x in obs.items()}, state, resets[:, t])
            outputs += [logits, value.unsqueeze(-1)]
    start = {key: value.detach().clone() for key, value in state.items()}
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    logits, values, _, _ = agent.sequence(obs, start, resets)
    chosen = (action > 0).long()
    ratio = (F.log_softmax(logits, -1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1) + 1.1).exp()
    policy = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    loss = policy + 0.5 * (values - target).square().mean() + 0.01 * (F.softmax(logits, -1).square().sum(-1)).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
    grads = torch.cat([p.grad.flatten() for p in agent.parameters() if p.grad is not None])
    optimizer.step()
    with torch.no_grad():
        after, value, _ = agent.step({key: x[:, 3] for key, x in obs.items()}, start, resets[:, 3])
    held = torch.cat([value.flatten().double() for value in start.values()])
    return {
        "outputs": torch.cat(outputs, -1).cpu(),
        "state": held.cpu(),
        "loss": loss.detach().view(1).cpu(),
        "grads": grads.cpu(),
        "after": torch.cat([after, value.unsqueeze(-1)], -1).cpu(),
    }


def compare(found, wanted):
    for part, limit in LIMITS.items():
        error = float((found[part].double() - wanted[part].double()).norm() / wanted[part].double().norm())
        assert error <= limit, (part, error)


@pytest.fixture(scope="module")
def reference():
    with use_backend("reference"):
        return {name: steps(name) for name in MEMORIES}


@pytest.mark.parametrize("name", MEMORIES)
def test_auto_and_the_operators_change_no_result(name, reference, monkeypatch):
    with use_backend("auto"):
        compare(steps(name), reference[name])
        for op in (
            "reset_scan",
            "reset_linear_attention",
            "hcam_read",
            "bank_read",
            "bank_write",
            "pkm_lookup",
            "titans_step",
        ):
            monkeypatch.setattr(f"embodied_mem.kernels.ops.{op}.inline", lambda *_, **__: False)
        reset_stats()
        compare(steps(name), reference[name])
        assert stats() and all(set(calls) == {"reference"} for calls in stats().values())


def test_interpreted_kernels_change_no_result(reference, tmp_path):
    environment = os.environ | {"EMBODIED_MEM_KERNELS": "interpret", "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(tmp_path / "found.pt")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    assert set(found) == set(MEMORIES)
    for name, results in found.items():
        assert results.pop("calls") > 0, name
        compare(results, reference[name])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MEMORIES)
def test_triton_kernels_change_no_result(name):
    with use_backend("reference"):
        wanted = steps(name, "cuda")
    with use_backend("auto"):
        found = steps(name, "cuda")
    for part in LIMITS:
        assert float((found[part].double() - wanted[part].double()).norm() / wanted[part].double().norm()) < 1e-3, part


def interpreted(path):
    """Run all memories with what the environment chose; called in a process of its own."""
    results = {}
    for name in MEMORIES:
        reset_stats()
        results[name] = steps(name)
        results[name]["calls"] = sum(calls.get("interpret", 0) for calls in stats().values())
    torch.save(results, path)


if __name__ == "__main__":
    interpreted(sys.argv[1])
