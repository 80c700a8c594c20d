import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from embodied_mem.agent import AgentConfig
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.config import TrainConfig, build

SMALL = {"num_envs": 8, "fragment": 32, "row": 16, "minibatch": 64, "gamma": 0.9, "agent": AgentConfig(memory="gru")}


def algorithm(**options):
    return build(TrainConfig(**(SMALL | options))).build_algo()


def train(algo, iterations):
    found = []
    for _ in range(iterations):
        result = algo.train()
        losses = result["learners"][DEFAULT_MODULE_ID]
        found.append(
            [float(losses[key]) for key in ("policy_loss", "vf_loss", "entropy", "grad_norm")]
            + [result["env_runners"]["num_env_steps_sampled_lifetime"]]
        )
    return np.array(found)


def weights(algo):
    return algo.learner_group.get_weights()[DEFAULT_MODULE_ID]


@pytest.mark.usefixtures("local_ray")
class TestLocal:
    def test_same_seed_same_metrics_and_weights(self):
        runs = []
        for _ in range(2):
            algo = algorithm(seed=7)
            runs.append((train(algo, 3), weights(algo)))
            algo.stop()
        (first, w1), (second, w2) = runs
        assert (first == second).all()
        assert all((w1[key] == w2[key]).all() for key in w1)
        assert np.isfinite(first).all()

    def test_learning_rate_and_entropy_weight_fall_to_their_last_values(self):
        algo = algorithm(lr=1e-2, lr_final=1e-3, entropy=0.02, entropy_final=0.0, anneal_steps=400)
        for _ in range(3):
            result = algo.train()
            steps = result["env_runners"]["num_env_steps_sampled_lifetime"]
            rate = float(result["learners"][DEFAULT_MODULE_ID]["default_optimizer_learning_rate"])
            assert rate == pytest.approx(1e-2 - 9e-3 * min(1.0, steps / 400), rel=1e-5)
            weight = float(result["learners"][DEFAULT_MODULE_ID]["curr_entropy_coeff"])
            assert weight == pytest.approx(0.02 - 0.02 * min(1.0, steps / 400), abs=1e-6)
        assert steps > 400
        algo.stop()

    def test_learner_sees_the_acting_logits_at_the_first_minibatch(self):
        algo = algorithm(keep_logits=True)
        algo.train()
        learner = algo.learner_group._learner
        seen = []
        original = learner.compute_loss_for_module

        def spy(*, module_id, config, batch, fwd_out):
            error = (fwd_out["action_dist_inputs"] - batch["action_dist_inputs"]).abs().max().detach()
            seen.append((float(error), int(batch["resets"][:, 1:].sum())))
            return original(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

        learner.compute_loss_for_module = spy
        for _ in range(3):
            seen.clear()
            algo.train()
            assert seen[0][0] <= 1e-5 < max(error for error, _ in seen[1:])
        algo.stop()

    def test_checkpoint_restores_weights_optimiser_generators_and_counters(self, tmp_path):
        algo = algorithm()
        train(algo, 2)
        algo.save_to_path(str(tmp_path / "c"))
        state = algo.learner_group.get_state()["learner"]
        sampler = algo.env_runner._sampler.get_state()
        algo.stop()
        runs = []
        for _ in range(2):
            again = algorithm(seed=99)
            again.restore_from_path(str(tmp_path / "c"))
            restored = again.learner_group.get_state()["learner"]
            assert_equal(state["rl_module"], restored["rl_module"])
            assert_equal(state["optimizer"], restored["optimizer"])
            assert (state["minibatch_order"] == restored["minibatch_order"]).all()
            assert torch.equal(sampler, again.env_runner._sampler.get_state())
            assert again.iteration == 2
            runs.append(train(again, 2))
            again.stop()
        assert (runs[0] == runs[1]).all()
        assert runs[0][0, -1] > 2 * 8 * 32, "step counters go on from the checkpoint"

    def test_evaluate_on_the_training_runner(self):
        algo = algorithm()
        algo.train()
        config = algo.config.copy(copy_frozen=False)
        assert config.evaluation_duration == 10
        found = algo.evaluate()["env_runners"]
        assert found["num_episodes"] == 10
        assert found["episode_len_mean"] == 51.0 or found["episode_len_mean"] == 52.0
        algo.train()
        algo.stop()

    def test_frozen_parameters_and_bad_gradients_leave_the_optimiser_alone(self):
        algo = algorithm()
        learner = algo.learner_group._learner
        before = weights(algo)
        learner.compute_loss_for_module = lambda **kw: kw["fwd_out"]["vf_preds"].sum() * float("nan")
        result = algo.train()
        assert result["learners"][DEFAULT_MODULE_ID]["skipped_updates"] == 2 * 4
        assert_equal(before, weights(algo))
        algo.stop()

    @pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
    def test_any_gymnasium_id_trains(self, env):
        algo = algorithm(env=env)
        assert np.isfinite(train(algo, 2)).all()
        algo.stop()

    @pytest.mark.parametrize("name", ["impala", "appo"])
    def test_asynchronous_algorithms_update_and_hand_out_weights(self, name):
        algo = algorithm(algorithm=name)
        before = weights(algo)
        for _ in range(3):
            result = algo.train()
        assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
        assert any((before[key] != value).any() for key, value in weights(algo).items())
        mine = algo.env_runner.module.get_state()
        assert any((before[key] != mine[key]).any() for key in mine)
        algo.stop()


def assert_equal(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fragment": 30, "row": 16}, "multiple of row"),
        ({"minibatch": 24}, "multiple of row"),
        ({"num_envs": 0}, "num_envs >= 1"),
        ({"num_learners": 3}, "divide by num_learners"),
        ({"runner": "stock", "row": 7}, "fragment \\+ 1"),
        ({"algorithm": "sac"}, "unknown algorithm"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"lr_final": 1e-4}, "anneal_steps > 0"),
        ({"entropy_final": 0.0}, "anneal_steps > 0"),
        ({"anneal_steps": 100}, "no final value"),
        ({"lr": -1.0}, "lr > 0, got -1.0"),
        ({"lr": float("nan")}, "lr > 0"),
        ({"gamma": 5.0}, "gamma in \\[0, 1\\]"),
        ({"entropy": -0.1}, "entropy >= 0"),
        ({"grad_clip": 0.0}, "grad_clip > 0"),
        ({"seed": -1}, "seed >= 0"),
        ({"minibatch": 512}, "minibatch <= 256"),
        ({"minibatch": 256, "num_learners": 2}, "minibatch <= 128"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        build(TrainConfig(**(SMALL | options)))
