"""Several processes learn what one learns: the parts of a batch make it up, and the weights end the same."""

import json
import threading

import numpy as np
import pytest
import torch

from embodied_mem.demonstrations import Episode
from embodied_mem.errors import UsageError
from embodied_mem.policies.imitation.batches import BatchConfig, Batches
from embodied_mem.policies.imitation.config import apply_imitation_overrides, imitation_config
from embodied_mem.policies.imitation.demonstrations import record
from embodied_mem.policies.imitation.run import train_imitation
from embodied_mem.policies.imitation.trainer import ImitationSeed
from embodied_mem.policies.vla.draws import Draws


class Threads:
    """Peers that are threads of this process."""

    def __init__(self, count):
        self.count, self.held, self.barrier = count, [None] * count, threading.Barrier(count, timeout=240)
        self.lock = threading.Lock()

    def build(self, *args, **options):
        """One after another: weights are drawn from the generator that threads share."""
        with self.lock:
            return ImitationSeed(*args, **options, peers=self)

    def of(self, rank):
        found = Threads.__new__(Threads)
        found.__dict__ = {**self.__dict__, "rank": rank}
        return found

    def all(self, value):
        self.held[self.rank] = value
        self.barrier.wait()
        found = [item.clone() for item in self.held]
        self.barrier.wait()
        return found

    def add(self, value):
        return value.copy_(sum(self.all(value)))

    def join(self, value):
        return torch.cat(self.all(value))


def together(count, work):
    """Run work(peers) in as many threads; returns what they return, by rank."""
    group, found = Threads(count), [None] * count

    def run(rank):
        try:
            found[rank] = work(group.of(rank))
        except BaseException as error:
            found[rank] = error
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for item in found:
        if isinstance(item, BaseException):
            raise item
    return found


def weights(run):
    return {**run.policy.state_dict(), **{f"average/{key}": value for key, value in run.average.state_dict().items()}}


@pytest.mark.parametrize("mode", ["episode", "group", "stream"])
def test_parts_make_up_the_batch(mode):
    lengths = (3, 7, 5, 4, 6)
    shown = [Episode("x", np.full((n, 2), n, np.float32), {}, np.ones((n, 1), np.float32), 0, True) for n in lengths]
    batches = Batches(shown, BatchConfig(mode, 4, 4), 2, 0, text=0)
    for update in range(3):
        whole = batches.batch(update)
        parts = [batches.part(update, rank, 2) for rank in range(2)]
        for name in ("chunks", "weight", "valid", "episode", "time", "resets"):
            assert torch.equal(torch.cat([getattr(part, name) for part, _ in parts]), getattr(whole, name))
        kept = [int(part.valid.sum()) for part, _ in parts]
        assert [place for _, place in parts] == [(0, sum(kept)), (kept[0], sum(kept))]


def test_draws_of_parts_are_those_of_the_whole():
    like = torch.zeros(10, 3)
    whole = Draws(torch.Generator().manual_seed(3), 0, 10)
    found = whole.normal(like), whole.integers(7, 10), whole.uniform(10)
    for first, n in ((0, 4), (4, 6)):
        part = Draws(torch.Generator().manual_seed(3), first, 10)
        cut = slice(first, first + n)
        for wanted, got in zip(found, (part.normal(like[cut]), part.integers(7, n), part.uniform(n))):
            assert torch.equal(wanted[cut], got)


@pytest.mark.parametrize(
    ("mode", "policy"), [("episode", "diffusion"), ("stream", "diffusion"), ("episode", "decision")]
)
def test_two_processes_make_the_steps_of_one(small, told_later, tmp_path, mode, policy):
    changes = {"batch.mode": mode, "batch.window": 5, "agent.policy": policy, "checkpoint.iterations": 2}
    settings = apply_imitation_overrides(imitation_config(small), changes)
    shown = record(told_later, {}, settings.train.demos)
    alone = ImitationSeed(settings, "x", 0, tmp_path / "alone", shown)
    while not alone.done:
        alone.iterate()
    alone.close()

    def half(peers):
        run = peers.build(settings, "x", 0, tmp_path / "both", shown)
        for _ in range(2):
            run.iterate()
        run.close()
        # the checkpoint is the first one's work; both go on from it, memories included
        peers.barrier.wait()
        run = peers.build(settings, "x", 0, tmp_path / "both", shown, resume=True)
        assert run.update == 6
        while run.update < settings.train.updates:
            run.iterate()
        run.close()
        return run

    first, second = together(2, half)
    for key, value in weights(alone).items():
        assert torch.equal(weights(first)[key], weights(second)[key]), key
        assert torch.allclose(value, weights(first)[key], rtol=1e-3, atol=2e-5), key
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "both")
    )
    assert [row["env_steps"] for row in ours] == [row["env_steps"] for row in theirs]
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-4)


def test_gradients_are_those_of_the_joint_batch(small, told_later, tmp_path):
    """Halves with unequal numbers of frames: the gradient is that of all frames, not the mean of two means."""
    settings = apply_imitation_overrides(imitation_config(small), {"batch.rows": 2, "grad_clip": 1e9})
    shown = record(told_later, {}, settings.train.demos)

    def gradients(peers=None):
        build = ImitationSeed if peers is None else peers.build
        run = build(settings, "x", 0, tmp_path / "x", shown)
        while len({int(n) for n in run.batches.batch(run.update).valid.sum(1)}) == 1:
            run.update += 1
        run._learn()
        run.close()
        return {key: item.grad.clone() for key, item in run.policy.named_parameters() if item.grad is not None}

    seen = gradients()
    for found in together(2, gradients):
        assert found.keys() >= seen.keys()
        for key, value in seen.items():
            assert torch.allclose(value, found[key], rtol=1e-4, atol=1e-6), key


@pytest.mark.full
def test_ray_train_starts_the_processes(small, tmp_path):
    """An environment that other processes can make too; one worker fewer resumes what two began."""
    generator = np.random.default_rng(0)
    shown = [
        Episode("", state, {}, 0.1 * state[:, :1], 0, True)
        for state in (generator.normal(size=(6, 3)).astype(np.float32) for _ in range(12))
    ]
    keys = {**small, "env": "Pendulum-v1", "rollouts": 0, "batch": {"rows": 4}, "checkpoint.iterations": 1}
    settings = imitation_config(keys)
    alone = train_imitation(settings, "x", tmp_path / "alone", episodes=shown)
    heard = []

    class Ears:
        def start(self, seed, number, total):
            pass

        def row(self, row, progress):
            heard.append((row["iteration"], progress))

    both = apply_imitation_overrides(settings, {"workers": 2})
    short = apply_imitation_overrides(both, {"stop.iterations": 2})
    train_imitation(short, "x", tmp_path / "both", episodes=shown, report=Ears())
    assert heard[-1] == (2, 1.0)
    found = train_imitation(both, "x", tmp_path / "both", episodes=shown, resume=True)
    assert found["metrics"]["env_steps"]["mean"] == alone["metrics"]["env_steps"]["mean"]
    from safetensors.torch import load_file

    ours, theirs = (
        load_file(tmp_path / name / "seed0" / "agent" / "weights.safetensors") for name in ("alone", "both")
    )
    for key, value in ours.items():
        assert torch.allclose(value, theirs[key], rtol=1e-3, atol=2e-5), key
    assert not (tmp_path / "both" / "seed0" / "ray").exists()


def test_rows_that_cannot_be_shared_out_are_refused(small):
    with pytest.raises(UsageError, match="divide batch.rows 8"):
        imitation_config({**small, "workers": 3})
    with pytest.raises(UsageError, match="device auto, cpu or cuda"):
        imitation_config({**small, "workers": 2, "device": "cuda:1"})
