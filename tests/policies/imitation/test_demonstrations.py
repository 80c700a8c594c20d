"""Demonstrations: what is recorded, in which order, and that the file gives it back."""

import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.experiments.recording import record_demonstrations
from embodied_mem.policies.imitation.demonstrations import DemonstrationConfig, demonstrations, record
from embodied_mem.policies.imitation.episode import play_episodes
from embodied_mem.policies.scripted.oracle import expert


def test_episodes_depend_on_their_number_not_on_the_rows(told_later):
    found = []
    for rows in (1, 5):
        env = make_vec(told_later, rows, autoreset_mode="Disabled")
        found.append(play_episodes(env, expert(told_later, env), 12, 3, first=2))
    for one, other in zip(*found):
        assert np.array_equal(one.state, other.state) and np.array_equal(one.actions, other.actions)
        assert one.success and one.instruction == "tell the cue" and 4 <= len(one) <= 6
        assert one.state[0, 0] in (-1, 1) and not one.state[1:, 0].any()
        assert (np.sign(one.actions[:, 0]) == one.state[0, 0]).all()
    assert "state (" in repr(found[0][0])


def test_noise_is_played_but_not_recorded(told_later):
    clean, noisy = (record(told_later, {}, DemonstrationConfig(16, noise=x, noisy=(0, 1))) for x in (0.0, 0.1))
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(clean, noisy))
    with pytest.raises(UsageError, match="lower demos.noise"):
        record(told_later, {}, DemonstrationConfig(16, noise=10.0, noisy=(0, 1)))


def test_failures_are_left_out(told_later):
    found = record(told_later, {}, DemonstrationConfig(20, noise=0.3, noisy=(0, 1)))
    assert len(found) == 20 and all(item.success for item in found)


def test_the_file_is_read_again(told_later, tmp_path, monkeypatch):
    config = DemonstrationConfig(6, noisy=(0, 1))
    first = demonstrations(told_later, {}, config, tmp_path)
    monkeypatch.setattr("embodied_mem.policies.imitation.demonstrations.record", None)
    again = demonstrations(told_later, {}, config, tmp_path)
    for one, other in zip(first, again):
        assert np.array_equal(one.state, other.state) and np.array_equal(one.actions, other.actions)
        assert (one.instruction, one.seed, one.success) == (other.instruction, other.seed, other.success)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="holds no demonstrations"):
        demonstrations(told_later, {}, config, tmp_path)


def test_what_cannot_be_recorded_is_refused(told_later):
    with pytest.raises(UsageError, match="demos.noisy within 0 to 1"):
        record(told_later, {}, DemonstrationConfig(2))
    with pytest.raises(UsageError, match="entry 'vector'"):
        record("CartPole-v1", {}, DemonstrationConfig(2))


@pytest.mark.parametrize("fmt", ["lerobot", "minari"])
def test_a_recorded_data_set_is_learned_from(fmt, told_later, tmp_path):
    pytest.importorskip("pyarrow" if fmt == "lerobot" else "minari")
    out = tmp_path / "told-v0"
    record_demonstrations(told_later, out, format=fmt, episodes=5)
    config = DemonstrationConfig(path=str(out))
    found = demonstrations(told_later, {}, config, tmp_path)
    played = record(told_later, {}, DemonstrationConfig(5, noise=0.0))
    assert len(found) == 5 and not list(tmp_path.glob("*.npz"))
    for one, other in zip(found, played):
        assert np.array_equal(one.state, other.state) and np.allclose(one.actions, other.actions)
        assert one.instruction == other.instruction
    with pytest.raises(UsageError, match="expected state and actions of shapes"):
        demonstrations("Pendulum-v1", {}, config, tmp_path)
    with pytest.raises(UsageError):
        demonstrations(told_later, {}, DemonstrationConfig(path=str(tmp_path / "nothing")), tmp_path)
