"""RLlib's behaviour cloning on recorded episodes: PPO on the stock runner records (``record_path``), this learns.

Rows start from the initial memory state (RLlib drops recorded states), so ``row`` should span what must be remembered.
Limits: RLlib's offline pipeline (ray.data) costs seconds per iteration whatever the data; it is here for data that
RLlib recorded. `policies/imitation` is the trainer for everything else.
"""

from __future__ import annotations

from pathlib import Path

from ray.rllib.algorithms.bc import BCConfig

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.common import configure
from embodied_mem.policies.rllib.config import TrainConfig


def build(config: TrainConfig) -> BCConfig:
    """Return the RLlib config of behaviour cloning on the episodes under ``episodes_path``.

    Raises:
        UsageError: the folder is not named or not there.
    """
    if config.episodes_path is None or not Path(config.episodes_path).is_dir():
        raise UsageError(
            f"bc: expected episodes_path to be a folder of recorded episodes, got {config.episodes_path!r}; "
            "record one with algorithm=ppo runner=stock record_path=FOLDER"
        )
    env = make_vec(config.env, 1, **config.env_config)
    rllib = BCConfig()
    configure(rllib, config)
    rllib.environment(observation_space=env.single_observation_space, action_space=env.single_action_space)
    env.close()
    return rllib.offline_data(
        input_=[Path(config.episodes_path).resolve().as_posix()],
        input_read_episodes=True,
        dataset_num_iters_per_learner=config.epochs,
        map_batches_kwargs={"concurrency": 1, "num_cpus": 1},
    ).training(train_batch_size_per_learner=config.minibatch, beta=0.0)
