"""Our preset beside sb3-contrib's RecurrentPPO: the wrapped peer, cells that are kept, the table."""

import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.evaluation import evaluate
from embodied_mem.experiments import recurrent_peer as peer
from embodied_mem.files import atomic_write_json


class Echo:
    """Stands in for a model of sb3: names the suit that is on the table and counts the steps since the reset."""

    def __init__(self, size: int) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.longest = 0

    def predict(self, observation, state, episode_start, deterministic):
        assert deterministic and observation.sum(1).max() == 1
        steps = np.zeros(len(observation)) if state is None else np.where(episode_start, 0, state)
        self.longest = max(self.longest, int(steps.max()))
        return observation.argmax(1), steps + 1


def test_a_wrapped_peer_plays_whole_episodes_with_its_state():
    model = Echo(4)
    result = evaluate(peer.PeerAgent(model), "probes", tasks=[peer.TASK], seeds=[0], episodes=40)
    assert model.longest == 50, "51 steps an episode, and the state is handed on between them"
    assert -0.7 < result["metrics"]["return"]["mean"] < -0.4


def test_a_finished_cell_is_read_and_the_table_has_both(tmp_path):
    for row, value in (("ours", 1.0), ("peer", 0.25)):
        for seed in (0, 1):
            record = {"return": [value] * 3, "mean": value, "env_steps": 10, "cpu_seconds": 2.0 + seed}
            atomic_write_json(tmp_path / "work" / row / f"seed{seed}" / "record.json", record)
    out = tmp_path / "out.json"
    peer.main(["--seeds", "0,1", "--work", str(tmp_path / "work"), "--out", str(out)])
    result = peer.read_json(out)
    assert result["metrics"]["return"]["mean"] == 1.0 and result["metrics"]["peer_return"]["mean"] == 0.25
    assert result["tasks"][peer.TASK]["controls"]["sb3_contrib"]["cpu_seconds"]["mean"] == pytest.approx(2.5)
    assert result["seconds"] == pytest.approx(10.0) and str(tmp_path) not in out.read_text()


@pytest.mark.full
def test_the_peer_learns_within_its_budget():
    pytest.importorskip("sb3_contrib")
    model, steps, seconds = peer.train_peer(0, 3.0)
    assert 3.0 <= seconds < 6.0 and steps >= peer.NUM_ENVS * peer.PEER["n_steps"]
