"""What docs/memory/composition.md shows is what happens."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch
import yaml

from embodied_mem.agent import AgentConfig, MemoryAgent
from embodied_mem.config import to_dict
from embodied_mem.envs.make import make_vec
from embodied_mem.memory.contract import make_memory

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "memory" / "composition.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'```\w+ title="([\w ]+)"\n(.*?)```', PAGE, flags=re.DOTALL))


def execute(name: str) -> dict:
    scope: dict = {}
    exec(compile(BLOCKS[name], f"composition.md:{name}", "exec"), scope)
    return scope


def comparable(text: str) -> list[str]:
    """Lines without the range of the random numbers, the first range of a line."""
    return [" ".join(re.sub(r"\S+ \.\. \S+", "#", line, count=1).split()) for line in text.splitlines()]


def test_the_preset_builds_runs_and_learns_from_its_loss():
    preset = yaml.safe_load(BLOCKS["preset"])
    config = AgentConfig(memory=preset["agent"]["memory"], memory_config=preset["agent"]["memory_config"])
    env = make_vec(preset["env"], 4, **preset["env_config"])
    torch.manual_seed(0)
    agent = MemoryAgent.build(config, env.single_observation_space, env.single_action_space)
    env.close()
    keys = set(agent.memory.state_spec())
    assert {"layer0/inner/S", "layer1/inner/h", "layer2/window/ring"} <= keys
    assert any(key.startswith("layer2/memory/") for key in keys)
    width = agent.memory.in_dim
    x, resets = torch.randn(4, 20, width), torch.rand(4, 20) < 0.1
    y, state = agent.memory.sequence(x, None, resets)
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in agent.memory.parameters())
    stepped, step = [], agent.memory.initial_state(4)
    with torch.no_grad():
        for t in range(20):
            out, step = agent.memory.step(x[:, t], step, resets[:, t])
            stepped.append(out)
    assert torch.allclose(y, torch.stack(stepped, 1), atol=1e-5)
    rebuilt = make_memory("stack", **to_dict(agent.memory.config))
    assert rebuilt.state_dict().keys() == agent.memory.state_dict().keys()


def test_the_preset_samples_and_trains(tmp_path):
    from embodied_mem.experiments.presets_loader import load_preset
    from embodied_mem.policies.rllib.config import build
    from embodied_mem.policies.rllib.packed import RowBatch
    from embodied_mem.policies.rllib.runner import BatchedRunner

    (tmp_path / "composed.yaml").write_text(BLOCKS["preset"], encoding="utf-8")
    preset = load_preset(str(tmp_path / "composed.yaml"))
    train = dataclasses.replace(preset.config.train, keep_logits=True)
    runner = BatchedRunner(config=build(train))
    columns = RowBatch.from_packed("p", runner.sample()[0], torch.device("cpu")).columns
    out = runner.module._forward_train(columns)
    # rows start from the stored states of all parts, so learning sees what acting computed
    assert (out["action_dist_inputs"] - columns["action_dist_inputs"]).abs().max() <= 1e-5
    out["action_dist_inputs"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in runner.module.agent.memory.parameters())
    runner.stop()


def test_a_trained_memory_can_be_frozen():
    scope = execute("freeze")
    x = torch.randn(2, 6, 8)
    with torch.no_grad():
        assert torch.allclose(scope["memory"].sequence(x)[0], scope["trained"].sequence(x)[0], atol=1e-6)
    (group,) = scope["optimiser"].param_groups
    assert len(group["params"]) == 4


def test_the_report_on_the_page_is_the_one_that_is_printed(capsys):
    execute("report")
    printed, shown = (comparable(text) for text in (capsys.readouterr().out, BLOCKS["report output"]))
    assert printed == shown and "window/ring 16x64 float32 ring 4,096 # 12 0 .. 11" in printed
