"""`TrainConfig`: everything a training run needs, one frozen dataclass; `build` turns it into an RLlib config."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from embodied_mem.agent import AgentConfig, MemoryAgent, load_weights
from embodied_mem.errors import UsageError
from embodied_mem.registry import get

if TYPE_CHECKING:
    import gymnasium
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Batch = num_envs x fragment x max(1, num_env_runners) steps per iteration."""

    env: str = "embodied_mem/RepeatPrevious-v0"
    """Gymnasium id, short (TMaze-v0), full, or with its module in front (pkg.envs:pkg/Name-v0)."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    algorithm: str = "ppo"
    """Registered algorithm: ppo, appo, impala, dqn or bc; vla_ppo has settings of its own."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    """Encoder, memory and heads."""
    init: str | None = None
    """Folder of a trained agent with the same ``agent`` settings (run or bundle): learning starts from its weights."""
    fresh_value: bool = False
    """With ``init``: values begin at 0, for agents of imitation, whose value head was never trained."""
    runner: Literal["batched", "stock"] = "batched"
    """How envs are sampled: packed rows with resets inside, or RLlib's episodes and connectors."""
    num_envs: int = 32
    """Environments per runner."""
    num_env_runners: int = 0
    """Runner actors; 0 samples in the driver."""
    num_learners: int = 0
    """Learner actors; 0 learns in the driver."""
    fragment: int = 128
    """Steps per env and iteration."""
    row: int = 0
    """Learner-row length S; 0 picks min(64, fragment) on the batched runner and fragment + 1 on the stock one."""
    minibatch: int = 1024
    """Steps per gradient step."""
    epochs: int = 2
    """Passes over the batch per iteration."""
    lr: float = 1e-3
    """Adam's learning rate."""
    lr_final: float | None = None
    """Learning rate that is reached, linearly, after ``anneal_steps`` env steps; null keeps ``lr``."""
    anneal_steps: int = 0
    """Env steps over which ``lr`` goes to ``lr_final`` and ``entropy`` to ``entropy_final``."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Lambda of the advantage estimate."""
    clip: float = 0.2
    """PPO and APPO: clip range of the probability ratio."""
    value_clip: float = 1e4
    """Upper bound of the squared value error per step."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    entropy_final: float | None = None
    """Weight that is reached, linearly, after ``anneal_steps`` env steps; null keeps ``entropy``."""
    grad_clip: float | None = 0.5
    """Global gradient-norm limit; null for none."""
    device: str = "auto"
    """Where learner and in-process runner compute: auto, cpu, cuda or cuda:<i>."""
    runner_gpus: float = 0.0
    """GPUs (or a share) per runner actor."""
    torch_threads: int = 1
    """Torch threads per process; 0 leaves torch's choice."""
    seed: int | None = 0
    """Seed of weights, envs, sampling and minibatch order; null for a fresh one."""
    restart_failed_envs: bool = True
    """Make a failed environment anew instead of stopping."""
    sample_timeout_s: float = 300.0
    """How long to wait for the runners of one iteration."""
    standardize: bool = True
    """APPO and IMPALA: scale advantages to unit variance per minibatch (PPO always does, per batch)."""
    broadcast_interval: int = 1
    """APPO and IMPALA: updates between two weight broadcasts."""
    burn_in: int = 4
    """DQN: steps at each row start that only warm the memory up."""
    replay_capacity: int = 50_000
    """DQN: steps kept in the replay buffer."""
    epsilon_steps: int = 10_000
    """DQN: env steps over which random actions fade out."""
    target_update_steps: int = 500
    """DQN: env steps between two updates of the target network."""
    episodes_path: str | None = None
    """BC: folder of recorded episodes."""
    record_path: str | None = None
    """Stock runner: folder into which sampled episodes are recorded."""
    keep_logits: bool = False
    """Also carry the acting distribution inputs to the learner (for checks)."""

    def make_agent(self, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> Any:
        """Return the network for single-env spaces, with the weights of ``init``, as every process of a run builds it.

        Raises:
            UsageError: its parts do not fit together, or not the spaces, or not ``init``.
        """
        agent = MemoryAgent.build(self.agent, observation_space, action_space)
        if self.init is not None:
            load_weights(agent, self.init, fresh_value=self.fresh_value)
        return agent

    @property
    def batch(self) -> int:
        """Steps per iteration over all runners."""
        return self.num_envs * self.fragment * max(1, self.num_env_runners)

    @property
    def lr_schedule(self) -> float | list[list[float]]:
        """The learning rate as RLlib takes it: a number, or [env step, rate] pairs with straight lines between."""
        return self._annealed(self.lr, self.lr_final)

    @property
    def entropy_schedule(self) -> Any:
        """The weight of the entropy bonus as RLlib takes it (its annotations leave schedules out)."""
        return self._annealed(self.entropy, self.entropy_final)

    def _annealed(self, first: float, last: float | None) -> float | list[list[float]]:
        return first if last is None else [[0, first], [self.anneal_steps, last]]

    @property
    def row_length(self) -> int:
        """Learner-row length after the default is applied."""
        if self.row:
            return self.row
        return min(64, self.fragment) if self.runner == "batched" else self.fragment + 1


RANGES: dict[str, tuple[float, float]] = {
    **{name: (0, math.inf) for name in ("num_env_runners", "num_learners", "row", "torch_threads", "burn_in")},
    **{name: (0, math.inf) for name in ("value_coef", "entropy", "entropy_final", "runner_gpus", "seed")},
    **{name: (1, math.inf) for name in ("replay_capacity", "epsilon_steps", "target_update_steps")},
    "broadcast_interval": (1, math.inf),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
}
"""Bounds of settings, both included; None passes."""


def build(config: TrainConfig) -> AlgorithmConfig:
    """Return the RLlib config of a run; ``.build_algo()`` on it makes the Algorithm.

    Raises:
        UsageError: the settings do not fit together; the message says what to change.
    """
    builder = get("algorithm", config.algorithm)
    check(config)
    return builder(config)


def check(config: TrainConfig) -> None:
    """Check how the settings fit together.

    Raises:
        UsageError: they do not; the message says what to change.
    """
    for name in ("num_envs", "fragment", "minibatch", "epochs"):
        if getattr(config, name) < 1:
            raise UsageError(f"expected {name} >= 1, got {getattr(config, name)}")
    for name, (low, high) in RANGES.items():
        value = getattr(config, name)
        # written so that NaN fails too
        if value is not None and not low <= value <= high:
            bounds = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
            raise UsageError(f"expected {name} {bounds}, got {value}")
    for name in ("lr", "lr_final", "clip", "value_clip", "grad_clip", "sample_timeout_s"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"expected {name} > 0, got {value}")
    finals = [name for name in ("lr_final", "entropy_final") if getattr(config, name) is not None]
    if bool(finals) != (config.anneal_steps > 0) or config.anneal_steps < 0:
        raise UsageError(
            "expected anneal_steps > 0 together with lr_final or entropy_final, or none of them, "
            f"got anneal_steps={config.anneal_steps} and {' and '.join(finals) or 'no final value'}"
        )
    per_learner = config.batch // max(1, config.num_learners)
    if config.algorithm in ("ppo", "vla_ppo") and config.minibatch > per_learner:
        raise UsageError(
            f"expected minibatch <= {per_learner} (num_envs x fragment x runners / learners), got {config.minibatch}; "
            "lower minibatch, or raise num_envs or fragment"
        )
    row = config.row_length
    if config.record_path is not None and config.runner == "batched":
        raise UsageError("record_path: episodes are recorded by the stock runner only; set runner=stock")
    if config.runner == "batched":
        _check_batched(config, row)
    elif config.algorithm in ("dqn", "bc"):
        return
    elif row != config.fragment + 1 and (config.fragment + 1) % row:
        raise UsageError(
            f"runner stock: expected row = fragment + 1 ({config.fragment + 1}) or fragment = k * row - 1, "
            f"got row {row} and fragment {config.fragment}; other values cost a padding row per fragment"
        )


def _check_batched(config: TrainConfig, row: int) -> None:
    if config.algorithm in ("dqn", "bc"):
        raise UsageError(f"algorithm {config.algorithm} learns from episodes; set runner=stock")
    if config.fragment % row:
        raise UsageError(f"runner batched: expected fragment to be a multiple of row {row}, got {config.fragment}")
    rows = config.batch // row
    if config.minibatch % row and config.minibatch < config.batch:
        raise UsageError(f"expected minibatch to be a multiple of row {row}, got {config.minibatch}")
    learners = max(1, config.num_learners)
    if rows % learners:
        raise UsageError(f"expected the {rows} rows of a batch to divide by num_learners {learners}")
