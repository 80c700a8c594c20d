"""Ballet by imitation: episodes of the oracle, cells that can be stopped, and their table."""

import dataclasses

import numpy as np
import pytest
import torch

from embodied_mem.agent import load_agent
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.experiments import ballet_imitation as ballet
from embodied_mem.experiments import tables

TINY = ballet.BalletConfig(width=8, batch=4, pool=2, updates=4, episodes=10, options={"width": 8}, solved=2.0, warmup=1)


def test_what_is_shown_is_the_oracles_play():
    env = make_vec("Ballet-v0", 6, levels="4_delay16", autoreset_mode="DISABLED")
    obs, actions = ballet.show(env, 0, 12)
    assert obs["vector"].shape == (6, 4 * 31 + 3, 26) and actions.shape == (6, 3)
    assert (obs["goal"][:, : 4 * 31, 0] == 1).all() and (obs["goal"][:, 4 * 31 :, 0] == 0).all()
    assert (actions == actions[:, :1]).all(), "every dancer stands on a straight line from the middle"
    again, _ = ballet.show(env, 0, 14)
    assert torch.equal(again["vector"][:4], obs["vector"][2:]) and not torch.equal(again["vector"], obs["vector"])


def test_a_cell_that_was_stopped_ends_with_the_same_weights(tmp_path):
    straight = ballet.Trainer(TINY, "2_delay16", "hcam", 0, tmp_path / "straight" / "learner.safetensors")
    straight.run()
    path = tmp_path / "stopped" / "learner.safetensors"
    ballet.Trainer(dataclasses.replace(TINY, updates=3), "2_delay16", "hcam", 0, path).run()
    resumed = ballet.Trainer(TINY, "2_delay16", "hcam", 0, path)
    assert resumed.update == 3 and not resumed.done
    resumed.run()
    assert resumed.done and resumed.accuracy == straight.accuracy
    for name, value in straight.agent.state_dict().items():
        assert torch.equal(resumed.agent.state_dict()[name], value), name


def test_the_command_makes_the_table_and_keeps_what_is_done(tmp_path, monkeypatch):
    out, settings = tmp_path / "result.json", {"width": 8, "batch": 4, "pool": 2, "updates": 2, "episodes": 20}
    words = ["--levels", "2_delay16", "--memories", "lstm,none", "--seeds", "0,1", "--work", str(tmp_path / "work")]
    words += ["--out", str(out), *(word for item in settings.items() for word in ("--set", "{}={}".format(*item)))]
    ballet.main(words)
    result = tables.read_json(out)
    task = result["tasks"]["Ballet-v0:2_delay16"]
    assert task["metrics"]["success"]["n"] == 40 and task["controls"]["none"]["success"]["n"] == 40
    for row, cells in (("lstm", task["metrics"]), ("none", task["controls"]["none"])):
        records = [tables.read_json(tmp_path / "work" / "2_delay16" / row / f"seed{k}" / "result.json") for k in (0, 1)]
        assert cells["success"]["mean"] == pytest.approx(np.mean([record["success"] for record in records]))
    assert result["metrics"]["2_delay16_lstm_minus_none"]["n"] == 40 and result["seeds"] == [0, 1]
    assert "Ballet-v0:2_delay16" in tables.render(result)
    monkeypatch.setattr(ballet.Trainer, "run", lambda *_: pytest.fail("trained again"))
    ballet.main(words)
    agent = load_agent(tmp_path / "work" / "2_delay16" / "lstm" / "seed0")
    assert np.array_equal(
        ballet.play(agent.module, "2_delay16", 20), ballet.play(agent.module, "2_delay16", 20, rows=7)
    )


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown memory 'gru'"):
        ballet.Trainer(TINY, "2_delay16", "gru", 0, tmp_path / "x")
    with pytest.raises(UsageError, match="expected batch >= 1"):
        ballet.BalletConfig(batch=0)
    with pytest.raises(UsageError, match="no cell was done"):
        ballet.main(["--minutes", "0", "--work", str(tmp_path), "--set", "batch=2"])


def test_pictures_are_a_level_of_their_own(tmp_path):
    config = dataclasses.replace(TINY, batch=2, updates=1, episodes=2)
    trainer = ballet.Trainer(config, "2_delay16-pixels", "lstm", 0, tmp_path / "learner.safetensors")
    trainer.run()
    assert trainer.done and "rgb" in trainer.env.single_observation_space.spaces
    assert ballet.play(trainer.agent, "2_delay16-pixels", 2).shape == (2,)
    with pytest.raises(UsageError, match="symbolic"):
        ballet.Trainer(config, "2_delay16-picture", "lstm", 0, tmp_path / "other.safetensors")
