"""The writer: an environment whose rewards are answered questions, and an adapter that RLlib learns from them."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.policies.stream.memorise import Episode, MemoriseEnv
from embodied_mem.policies.stream.writer import WriterConfig, answered, train_writer
from embodied_mem.private_ray import start_private_ray
from embodied_mem.stream.memories.task_mem import read_adapter, save_adapter
from embodied_mem.stream.memory import make_stream_memory

SLOTS, FRAMES, KINDS = 8, 40, 6


def draw(seed, asked=(0, 1)):
    """Frames of six kinds; at the end, how many of those of the kinds asked about are held."""
    rng = np.random.default_rng([3, seed])
    kinds = rng.integers(0, KINDS, FRAMES)
    kinds[:2] = asked
    tokens = np.eye(KINDS, dtype=np.float32)[kinds][:, None] + 0.05 * rng.standard_normal((FRAMES, 1, KINDS))
    wanted = set(np.flatnonzero(np.isin(kinds, asked)).tolist())

    def more_than(count):
        return lambda snapshot: float(len(wanted & {int(e.t0) for e in snapshot.entries}) > count)

    questions = [(float(FRAMES), more_than(count)) for count in range(min(len(wanted), SLOTS))]
    return Episode(tokens.astype(np.float32), np.arange(FRAMES, dtype=np.float64), questions)


def play(env, policy, seed):
    seen, _ = env.reset(seed=seed)
    rewards, over = [], False
    while not over:
        seen, reward, over, _, info = env.step(np.array([policy(seen)], np.float32))
        rewards.append(reward)
    return rewards, info


def test_rewards_are_the_share_of_answered_questions():
    env = MemoriseEnv(draw, slots=SLOTS)
    assert env.observation_space.shape == (KINDS + 2,)
    rewards, info = play(env, lambda f: 1.0, 0)
    assert sum(rewards[:-1]) == 0 and info["answered"] == pytest.approx(rewards[-1]) and len(rewards) == FRAMES
    best, _ = play(env, lambda f: f[0] + f[1] - 0.5, 0)
    nothing, _ = play(env, lambda f: -1.0, 0)
    assert best[-1] > 0.9 > 0.5 > rewards[-1] and nothing[-1] == 0 and not env.memory.snapshot().entries


def test_a_question_in_the_middle_sees_what_was_written_by_then():
    def middle(seed):
        plain = draw(seed)
        return Episode(plain.tokens, plain.times, [(t + 0.5, lambda s: float(len(s.entries))) for t in (0, 3)])

    rewards, _ = play(MemoriseEnv(middle, slots=SLOTS), lambda f: 1.0, 1)
    assert rewards[:5] == [0.5, 0.0, 0.0, 2.0, 0.0]


def test_the_values_of_another_policy_decide_what_stays():
    memory = make_stream_memory("taskmem", slots=2)
    for t, value in enumerate([0.5, -1.0, 3.0, 1.0]):
        memory.write_valued(value, np.eye(4, dtype=np.float32)[[t]], float(t))
    assert memory.read().times[:, 0].tolist() == [2.0, 3.0] and memory.version == 4
    assert memory.features(np.eye(4)[[2]]).shape == (6,) and memory.features(np.eye(4)[[2]])[4] == pytest.approx(1)
    with pytest.raises(UsageError, match="finite value"):
        memory.write_valued(float("nan"), np.ones((1, 4)), 9.0)
    memory.write(np.ones((1, 4)), 10.0)
    assert memory.version == 5, "by itself it decides by its own adapter again"


def test_an_adapter_is_saved_and_read(tmp_path):
    learned = {"adapter": np.array([1.0, -1.0, 0.0, 0.0, 0.0, -0.2]), "baseline": np.array([0.5, 3.0])}
    save_adapter(tmp_path / "a.safetensors", learned)
    memory = make_stream_memory("taskmem", slots=4, adapter=str(tmp_path / "a.safetensors"))
    for t in range(4):
        memory.write(np.eye(4, dtype=np.float32)[[t]], float(t))
    assert memory.read().times[:, 0].tolist() == [0.0]
    memory.reset()
    assert np.array_equal(memory.arrays["adapter"], learned["adapter"])
    for content in (b"nothing", None):
        file = tmp_path / "b.safetensors"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UsageError, match="adapter|safetensors"):
            read_adapter(file)
    with pytest.raises(UsageError, match="expected slots >= 1"):
        WriterConfig(slots=0)


@pytest.fixture(scope="module")
def ray_running():
    import ray

    start_private_ray(num_cpus=2)
    yield
    ray.shutdown()


@pytest.mark.full
def test_ppo_moves_the_adapter_towards_what_is_asked(ray_running):
    config = WriterConfig(slots=SLOTS, iterations=8, batch=1600, envs=8, epochs=6, rate=2e-2)
    learned, shares = train_writer(draw, config)
    w = learned["adapter"]
    assert w.shape == (KINDS + 2,) and len(shares) == 8
    assert min(w[:2]) > max(w[2:KINDS]), "what is asked about is worth more"
    ours = np.mean(answered(draw, range(10_000, 10_020), SLOTS, learned))
    plain = np.mean(answered(draw, range(10_000, 10_020), SLOTS))
    assert ours > plain + 0.2


@pytest.mark.full
def test_it_learns_to_keep_what_is_asked_about(ray_running):
    learned, shares = train_writer(draw, WriterConfig(slots=SLOTS, iterations=40, batch=4096, rate=1e-2))
    assert shares[-1] > shares[0] + 0.3
    assert np.mean(answered(draw, range(10_000, 10_050), SLOTS, learned)) > 0.8
