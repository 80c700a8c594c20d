"""Suites of rarely installed packages: where one is there, its first task keeps the contract of assigned episodes."""

import importlib.util

import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.evaluation import load_suite
from embodied_mem.evaluation.casting import make_env
from embodied_mem.policies.imitation.episode import play_episodes
from embodied_mem.policies.scripted.oracle import expert

NEEDS = {
    "maniskill": ("mani_skill",),
    "mikasa-robo": ("mani_skill", "mikasa_robo_suite"),
    "robosuite": ("robosuite",),
    "libero-spatial": ("libero", "robosuite"),
    "simpler-bridge": ("simpler_env",),
}


def begin(env, episode):
    return env.reset(seed=3, options={"reset_mask": np.ones(1, bool), "episode": np.array([episode])})[0]


@pytest.mark.parametrize("name", NEEDS)
def test_episodes_come_back_and_say_whether_they_succeeded(name):
    missing = [package for package in NEEDS[name] if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    task = load_suite(name).tasks[0]
    env = make_env(task, 1)
    moves = np.random.default_rng(0).uniform(-1, 1, (5, *env.single_action_space.shape)).astype(np.float32)
    moves = np.clip(moves, env.single_action_space.low, env.single_action_space.high)
    runs = []
    for episode in (1, 2, 1):
        seen = [begin(env, episode)]
        assert env.observation_space.contains(seen[0]) and seen[0]["instruction"].any()
        for move in moves:
            obs, rewards, terminated, truncated, info = env.step(move[None])
            seen.append(obs)
            assert rewards.shape == (1,) and (not (terminated | truncated).any() or "success" in info)
        key = "vector" if "vector" in seen[0] else "rgb"
        runs.append(np.stack([obs[key] for obs in seen]).astype(np.float32))
    assert np.allclose(runs[0], runs[2], atol=1e-5) and not np.allclose(runs[0], runs[1], atol=1e-5)
    env.close()


@pytest.mark.parametrize("colours", [3, 5, 9])
def test_mikasa_holds_the_arm_until_all_cubes_stand_and_its_expert_touches_the_right_one(colours):
    for package in NEEDS["mikasa-robo"]:
        pytest.importorskip(package)
    env = make_vec("MikasaRobo-v0", 1, task=f"RememberColor{colours}-VLA-v0", autoreset_mode="Disabled")
    begin(env, 0)
    hidden, moved = [], []
    while not hidden or hidden[-1]:
        facts = env.unwrapped.privileged()
        assert facts["cubes"].shape == (1, colours, 3) and 0 <= facts["oracle_info"][0, 0] < colours
        hidden.append(facts["waits"][0])
        moved.append(facts["tcp"][0])
        env.step(np.ones((1, 7), np.float32))
    assert 2 <= sum(hidden) <= 10 and np.allclose(moved, moved[0], atol=0.01)
    assert not np.allclose(env.unwrapped.privileged()["tcp"][0], moved[0], atol=0.01)
    assert all(episode.success for episode in play_episodes(env, expert("MikasaRobo-v0", env), 3, seed=0))
    env.close()
