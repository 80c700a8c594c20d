"""The training systems that bench ``train`` compares, one per process: the same task, network, batch and epochs.

Network: 64 tanh features -> LSTM 128 -> action and value heads. Batch 4096 steps, minibatches of 1024, 2 epochs, rows
of 64 steps (of the fragment, where that is shorter). All get the batched environment: the peers' own vectorisation of
scalar environments would only add to their time.

    python -m embodied_mem.experiments.bench.train_systems batched 32 0

answers every line with a number of seconds by one JSON line: env steps, CPU-seconds and wall seconds of a block.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from embodied_mem.private_ray import start_private_ray

BATCH, MINIBATCH, EPOCHS, ROW = 4096, 1024, 2, 64
ENV = "embodied_mem.envs:embodied_mem/RepeatPrevious-v0"

Iterate = Callable[[], int]
"""Runs one training iteration and returns the env steps taken so far."""


def fragment_length(num_envs: int, runners: int) -> int:
    """Return steps per env and iteration that make one batch."""
    return BATCH // (num_envs * max(1, runners))


def batched(num_envs: int, runners: int) -> Iterate:
    """Our path: RLlib's PPO machinery on the batched runner and packed rows."""
    from embodied_mem.policies.rllib.config import TrainConfig, build

    fragment = fragment_length(num_envs, runners)
    config = TrainConfig(
        env=ENV,
        agent=_agent(),
        num_envs=num_envs,
        num_env_runners=runners,
        fragment=fragment,
        row=min(ROW, fragment),
        minibatch=MINIBATCH,
        epochs=EPOCHS,
        gamma=0.95,
        device="cpu",
    )
    return _algorithm(build(config))


def stock(num_envs: int, runners: int, max_seq_len: int = ROW) -> Iterate:
    """RLlib's own PPO with its own LSTM model, runner and connectors."""
    import gymnasium
    import numpy as np
    from gymnasium import spaces
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    from embodied_mem.envs.make import make_vec

    class OneHot(gymnasium.vector.VectorObservationWrapper):
        """The same input as the other systems get, so that RLlib needs no connector for it."""

        def __init__(self, env: gymnasium.vector.VectorEnv) -> None:
            super().__init__(env)
            size = spaces.utils.flatdim(env.single_observation_space)
            self.codes = np.eye(size, dtype=np.float32)
            self.single_observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
            self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, env.num_envs)

        def observations(self, observations: np.ndarray) -> np.ndarray:
            return self.codes[observations]

    register_env("bench-repeat-previous", lambda context: OneHot(make_vec(ENV, context["num_envs"])))
    config = (
        PPOConfig()
        .environment("bench-repeat-previous")
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=num_envs,
            rollout_fragment_length=fragment_length(num_envs, runners),
            gym_env_vectorize_mode="vector_entry_point",
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[64],
                fcnet_activation="tanh",
                use_lstm=True,
                lstm_cell_size=128,
                max_seq_len=max_seq_len,
                vf_share_layers=True,
            )
        )
        .training(
            train_batch_size_per_learner=BATCH,
            minibatch_size=MINIBATCH,
            num_epochs=EPOCHS,
            lr=1e-3,
            gamma=0.95,
            lambda_=0.95,
            clip_param=0.2,
            entropy_coeff=0.01,
            vf_loss_coeff=0.5,
            grad_clip=0.5,
            use_kl_loss=False,
        )
        .debugging(seed=0, log_level="ERROR")
        .reporting(min_time_s_per_iteration=0)
    )
    return _algorithm(config)


def stock_plus(num_envs: int, runners: int) -> Iterate:
    """`stock` with room for RLlib's extra bootstrap step in every row."""
    return stock(num_envs, runners, ROW + 1)


def stock_fragment(num_envs: int, runners: int) -> Iterate:
    """`stock` with rows as long as the fragment."""
    return stock(num_envs, runners, fragment_length(num_envs, runners))


def yardstick(num_envs: int, runners: int) -> Iterate:
    """The single-file loop, without Ray."""
    from embodied_mem.experiments.yardstick_ppo import Yardstick, YardstickConfig

    fragment = fragment_length(num_envs, 0)
    run = Yardstick(
        YardstickConfig(
            agent=_agent(),
            num_envs=num_envs,
            fragment=fragment,
            row=min(ROW, fragment),
            minibatch=MINIBATCH,
            epochs=EPOCHS,
        )
    )

    def iterate() -> int:
        run.iterate()
        return run.env_steps

    return iterate


def sb3(num_envs: int, runners: int) -> Iterate:
    """sb3-contrib's RecurrentPPO with one LSTM shared by actor and critic."""
    from sb3_contrib import RecurrentPPO

    from embodied_mem.experiments.sb3_adapter import Features, VectorAdapter

    steps = fragment_length(num_envs, 0)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        VectorAdapter(ENV, num_envs),
        n_steps=steps,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        learning_rate=1e-3,
        gamma=0.95,
        ent_coef=0.01,
        max_grad_norm=0.5,
        policy_kwargs={
            "features_extractor_class": Features,
            "lstm_hidden_size": 128,
            "shared_lstm": True,
            "enable_critic_lstm": False,
            "net_arch": [],
        },
        device="cpu",
        seed=0,
    )
    model.learn(BATCH)

    def iterate() -> int:
        model.learn(BATCH, reset_num_timesteps=False)
        return model.num_timesteps

    return iterate


SYSTEMS: dict[str, Callable[[int, int], Iterate]] = {
    "batched": batched,
    "yardstick": yardstick,
    "stock": stock,
    "stock_plus": stock_plus,
    "stock_fragment": stock_fragment,
    "sb3": sb3,
}


def _agent() -> Any:
    from embodied_mem.agent import AgentConfig
    from embodied_mem.perception.encoder import EncoderConfig

    return AgentConfig(encoder=EncoderConfig(out_dim=64), memory="lstm", memory_config={"out_dim": 128})


def _algorithm(config: Any) -> Iterate:
    start_private_ray(num_cpus=3)
    algorithm = config.build_algo()

    def iterate() -> int:
        return int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])

    return iterate


def main(name: str, num_envs: int, runners: int) -> None:
    """Build a system, print what building cost, then answer requests on standard input."""
    # libraries print to standard output; the answers keep a copy of it for themselves
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    began = time.perf_counter()
    try:
        import torch

        torch.set_num_threads(1)
        iterate = SYSTEMS[name](num_envs, runners)
        steps = iterate()
        steps = iterate()
    except Exception as error:  # whatever a peer fails with is the reason that stands in the result's notes
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}), file=answers)
        return
    from embodied_mem.policies.training.cpu_time import CpuMeter

    print(json.dumps({"startup_seconds": time.perf_counter() - began}), file=answers)
    for line in sys.stdin:
        meter, wall, before = CpuMeter(), time.perf_counter(), steps
        while time.perf_counter() - wall < float(line):
            steps = iterate()
        block = {"steps": steps - before, "cpu": meter.seconds(), "wall": time.perf_counter() - wall}
        print(json.dumps(block), file=answers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
