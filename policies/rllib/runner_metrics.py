"""What a batched runner tells RLlib's metrics: step counters and the means of recent episodes, one value per key."""

from __future__ import annotations

from typing import Any

from ray.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
)

from embodied_mem.policies.rllib.episodes import EpisodeTracker

EPISODE_SUCCESS_MEAN = "episode_success_mean"


def log_steps(metrics: Any, env_steps: int, episodes: int) -> None:
    """Log the counters of one `sample` call under RLlib's keys."""
    for key, per in ((NUM_ENV_STEPS_SAMPLED, ()), (NUM_AGENT_STEPS_SAMPLED, DEFAULT_AGENT_ID)):
        metrics.log_value((key, per) if per else key, env_steps, reduce="sum")
    metrics.log_value((NUM_MODULE_STEPS_SAMPLED, DEFAULT_MODULE_ID), env_steps, reduce="sum")
    metrics.log_value(NUM_EPISODES, episodes, reduce="sum")
    metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, env_steps, reduce="lifetime_sum", with_throughput=True)
    metrics.log_value((NUM_AGENT_STEPS_SAMPLED_LIFETIME, DEFAULT_AGENT_ID), env_steps, reduce="lifetime_sum")
    metrics.log_value((NUM_MODULE_STEPS_SAMPLED_LIFETIME, DEFAULT_MODULE_ID), env_steps, reduce="lifetime_sum")
    metrics.log_value(NUM_EPISODES_LIFETIME, episodes, reduce="lifetime_sum")


def log_episodes(metrics: Any, episodes: EpisodeTracker) -> None:
    """Log mean, min and max over the tracker's window; nothing where no episode has ended yet."""
    count, recent = episodes.drain()
    if count == 0:
        return
    returns, lengths = recent["return"], recent["length"]
    for key, value in ((EPISODE_RETURN_MEAN, returns.mean()), (EPISODE_LEN_MEAN, lengths.mean())):
        metrics.log_value(key, float(value), window=1)
    for key, value, reduce in (
        (EPISODE_RETURN_MIN, returns.min(), "min"),
        (EPISODE_RETURN_MAX, returns.max(), "max"),
        (EPISODE_LEN_MIN, lengths.min(), "min"),
        (EPISODE_LEN_MAX, lengths.max(), "max"),
    ):
        metrics.log_value(key, float(value), reduce=reduce, window=1)
    if len(recent["success"]):
        metrics.log_value(EPISODE_SUCCESS_MEAN, float(recent["success"].mean()), window=1)
