"""A clause follower: its walks, its training, its bundle, and what its memory and the graph are worth."""

import json

import numpy as np
import pytest
import torch

from embodied_mem.agent import load_agent
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.experiments.presets_loader import load_preset
from embodied_mem.experiments.training import train
from embodied_mem.policies.navigation.clause_config import apply_clause_overrides, clause_config
from embodied_mem.policies.navigation.clause_lessons import record_walks
from embodied_mem.policies.navigation.clause_seed import ClauseSeed, build_follower
from embodied_mem.policies.navigation.lessons import LessonConfig

SMALL = {
    "agent": {"width": 16, "embedding": 8, "channels": 8, "kernel": 3},
    "lessons": {"routes": 24, "texts": 2, "styles": ["map2seq"]},
    "rows": 8,
    "updates": 4,
    "report_every": 2,
    "rollouts": 8,
    "log.tensorboard": False,
}


def small(**changes):
    return apply_clause_overrides(clause_config(SMALL), changes)


def test_walks_lead_to_the_goal_and_beyond():
    config = LessonConfig(routes=30, texts=2, styles=("map2seq", "touchdown"), overshoot=5, num_envs=16)
    walks = record_walks("embodied_mem/Street-v0", {}, config)
    assert len(walks.lengths) == 120 and walks.target.shape == walks.good.shape == walks.open.shape[:2]
    arrival = (walks.target >= 0).sum(1)
    whole = np.flatnonzero(walks.lengths == arrival + 6)
    assert len(whole) > 60, "most walks end within the 55 actions"
    for row in whole:
        end, length = int(arrival[row]), int(walks.lengths[row])
        assert (walks.target[row, end:] == -1).all() and walks.good[row, end]
        assert not walks.good[row, : max(end - 6, 0)].any() and not walks.good[row, length:].any()
        taken = walks.target[row, :end]
        assert walks.open[row, np.arange(end), taken].all(), "what the teacher takes may be chosen"
    lesson = walks.batch(np.array([3, 70]))
    assert lesson.valid.sum(1).tolist() == walks.lengths[[3, 70]].tolist()
    assert lesson.tokens.shape[:2] == lesson.numbers.shape[:2] and lesson.tokens.shape[1] == lesson.total.max()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    settings = small()
    shown = ClauseSeed.gather(settings, tmp_path)
    whole = ClauseSeed(settings, "x", 0, tmp_path / "whole", shown)
    while not whole.done:
        whole.iterate()
    part = ClauseSeed(settings, "x", 0, tmp_path / "part", shown)
    part.iterate()
    part.save()
    part.iterate()
    resumed = ClauseSeed(settings, "x", 0, tmp_path / "part", shown, resume=True)
    while not resumed.done:
        resumed.iterate()
    for key, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[key]), key
    for run in (whole, part, resumed):
        run.close()


def test_a_preset_file_trains_and_its_bundle_is_evaluated_with_controls(tmp_path):
    path = tmp_path / "walk.yaml"
    path.write_text(json.dumps({"description": "walks", "algorithm": "clauses", **SMALL}))
    assert load_preset(str(path)).config.train.agent.channels == 8
    result = train(str(path), out=tmp_path / "run")
    assert 0.0 <= result["metrics"]["success"]["mean"] <= 1.0
    again = train(None, out=tmp_path / "run", resume=True)
    assert again["metrics"]["success"] == result["metrics"]["success"]
    agent = load_agent(tmp_path / "run")
    assert agent.module.config.width == 16
    kwargs = {"language": "varied", "split": "test", "items": 8, "order": "listed", "record": True}
    suite = Suite("mine", "streets", (Task("embodied_mem/Street-v0", "street", kwargs=kwargs),), episodes=8, num_envs=8)
    shown = evaluate(tmp_path / "run", suite, controls=["wiped:1", "shuffled"], device="cpu")
    assert shown["metrics"]["tc"]["n"] == 8 and set(shown["controls"]) == {"wiped:1", "shuffled"}
    assert all(shown["controls"].values())


def test_blind_followers_do_not_see_what_they_are_blind_to():
    config = LessonConfig(routes=12, texts=1, styles=("map2seq",))
    lesson = record_walks("embodied_mem/Street-v0", {}, config).batch(np.arange(12))
    told_of = (lesson.tokens, lesson.numbers, lesson.total)
    for change, blind in (({"agent.memory": "none"}, "counts"), ({"agent.graph": False}, "angles")):
        module = build_follower(small(**change)).eval()
        seen = lesson.seen
        scores = torch.cat(module(module.tell(*told_of), seen), -1)
        if blind == "counts":
            counts = seen.counts.clone()
            counts[..., 2:12] += 3
            other = seen._replace(counts=counts)
        else:
            other = seen._replace(angles=(seen.angles + 40).clamp(max=170))
        assert torch.equal(scores, torch.cat(module(module.tell(*told_of), other), -1))
        sighted = build_follower(small()).eval()
        assert not torch.equal(sighted(sighted.tell(*told_of), seen)[0], sighted(sighted.tell(*told_of), other)[0])


@pytest.mark.full
def test_it_learns_to_follow_in_the_town(tmp_path):
    """The made-up town: what is learnt beats the same network without its counts by far."""
    rates = {}
    for memory in ("odometer", "none"):
        changes = {"lessons.routes": 1500, "lessons.texts": 1, "updates": 400, "rows": 64, "rollouts": 200}
        sizes = {"agent.width": 96, "agent.channels": 48, "agent.embedding": 24, "agent.memory": memory}
        from embodied_mem.policies.imitation.run import train_imitation

        result = train_imitation(small(**changes, **sizes), "town", tmp_path / memory, kind=ClauseSeed)
        rates[memory] = result["metrics"]["success"]["mean"]
    assert rates["odometer"] > 0.3 and rates["odometer"] > 2 * rates["none"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1}, "did you mean 'lr'"),
        ({"agent.memory": "gru"}, "odometer"),
        ({"agent.kernel": 4}, "odd kernel"),
        ({"agent.dropout": 1.0}, "agent.dropout"),
        ({"decide": 2.0}, "expected decide"),
        ({"rows": 0}, "expected rows"),
    ],
)
def test_wrong_keys_and_values_are_explained(changes, message):
    with pytest.raises(UsageError, match=message):
        small(**changes)
