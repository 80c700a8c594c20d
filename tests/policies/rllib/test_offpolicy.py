import numpy as np
import pytest

from embodied_mem.agent import AgentConfig
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.config import TrainConfig, build

GRU = AgentConfig(memory="gru")


def test_dqn_with_burn_in_learns_from_replay(local_ray):
    config = TrainConfig(
        algorithm="dqn", runner="stock", num_envs=1, fragment=64, row=20, minibatch=64, agent=GRU, env="CartPole-v1"
    )
    algo = build(config).build_algo()
    before = algo.learner_group.get_weights()["default_policy"]
    for _ in range(4):
        result = algo.train()
    assert np.isfinite(result["learners"]["default_policy"]["qf_loss"])
    after = algo.learner_group.get_weights()["default_policy"]
    assert any((before[key] != after[key]).any() for key in before)
    algo.stop()


@pytest.mark.full
def test_bc_learns_from_episodes_that_ppo_recorded(local_ray, tmp_path):
    pytest.importorskip("msgpack_numpy", reason="RLlib writes episodes with msgpack-numpy; pip install msgpack-numpy")
    common = {"runner": "stock", "agent": GRU, "minibatch": 126, "env": "RepeatPrevious-v0"}
    recorder = build(
        TrainConfig(num_envs=4, fragment=63, record_path=str(tmp_path / "episodes"), **common)
    ).build_algo()
    recorder.train()
    recorder.stop()
    algo = build(TrainConfig(algorithm="bc", row=64, episodes_path=str(tmp_path / "episodes"), **common)).build_algo()
    first = algo.train()["learners"]["default_policy"]["policy_loss"]
    assert np.isfinite(first)
    algo.stop()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "dqn", "num_envs": 4, "runner": "stock"}, "one env per runner"),
        ({"algorithm": "dqn", "num_envs": 1, "runner": "stock", "row": 4, "burn_in": 4}, "burn_in < row"),
        ({"algorithm": "dqn", "num_envs": 1}, "runner=stock"),
        ({"algorithm": "bc", "runner": "stock"}, "episodes_path"),
        ({"algorithm": "bc", "runner": "stock", "episodes_path": "/nowhere"}, "record_path=FOLDER"),
        ({"record_path": "x"}, "runner=stock"),
    ],
)
def test_limits_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        build(TrainConfig(**options))
