"""The code blocks of docs/recipes.md run as they stand, in under 30 lines each where the text says so."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'```python title="(\w+)"\n(.*?)```', TEXT, flags=re.DOTALL))
NEEDS = {"torchrl": "torchrl", "sb3": "sb3_contrib"}


RESIDUAL = '"residual", inner={"name": "gru"}'
STACK = '"stack", layers=[{"name": "gru"}, {"name": "residual", "config": {"inner": {"name": "hopfield"}}}]'


def run(name: str, memory: str = '"gru"') -> dict:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    scope: dict = {}
    block = BLOCKS[name].replace('make_memory("gru"', f"make_memory({memory}")
    assert f"make_memory({memory}" in block
    exec(compile(block, f"recipes.md:{name}", "exec"), scope)
    return scope


def test_all_blocks_are_under_thirty_lines():
    assert set(BLOCKS) == {"plain_pytorch", "torchrl", "sb3"}
    for name, block in BLOCKS.items():
        code = [line for line in block.splitlines() if line.strip()]
        assert len(code) < 30, f"{name} has {len(code)} lines of code"


@pytest.mark.parametrize("memory", ['"gru"', RESIDUAL], ids=["gru", "composed"])
def test_plain_pytorch_learns_recall(memory):
    scope = run("plain_pytorch", memory)
    assert scope["head"](scope["y"]).argmax().item() == 2
    assert scope["loss"].item() < 0.5


@pytest.mark.parametrize("memory,keys", [('"gru"', 1), (STACK, 3)], ids=["gru", "composed"])
def test_torchrl_carries_the_state(memory, keys):
    scope = run("torchrl", memory)
    rollout, starts = scope["rollout"], scope["rollout"]["is_init"].flatten()
    assert starts[0] and starts.sum() > 1
    assert len(scope["keys"]) == keys
    for key in scope["keys"]:
        held = rollout[key][~starts]
        assert (held.reshape(len(held), -1).abs().sum(-1) > 0).all(), key


@pytest.mark.parametrize("memory", ['"gru"', RESIDUAL], ids=["gru", "composed"])
def test_sb3_trains_our_memory(memory):
    scope = run("sb3", memory)
    assert scope["model"].num_timesteps == 256
    gradients = [p.grad for p in scope["model"].policy.lstm_actor.memory.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
