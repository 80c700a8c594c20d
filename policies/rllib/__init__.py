"""RLlib as the engine: one RLModule over any memory, a batched env runner, and the algorithms that learn from its rows.

Import name: `embodied_mem.policies.rllib`. Algorithms are registered by string, so importing this package does not
import Ray.

- `config`: `TrainConfig` and `build`, from one frozen dataclass to an RLlib `AlgorithmConfig`.
- `module`: `MemoryRLModule`, the `MemoryAgent` as an RLModule.
- `runner`, `rollout`, `episodes`, `gae`, `packed`: sampling rows of fixed length with resets inside.
- `learner`, `vtrace`: what the RLlib Learner does with such rows.
- `ppo`, `appo`, `impala`, `dqn`, `bc`: one algorithm each.
- `vla_config`, `vla_ppo`: PPO of a policy of `embodied_mem.policies.vla`.
"""

from embodied_mem.registry import register_lazy

register_lazy("algorithm", "ppo", "embodied_mem.policies.rllib.ppo:build", on_policy=True)
register_lazy("algorithm", "vla_ppo", "embodied_mem.policies.rllib.vla_ppo:build", on_policy=True)
register_lazy("algorithm", "appo", "embodied_mem.policies.rllib.appo:build", on_policy=True)
register_lazy("algorithm", "impala", "embodied_mem.policies.rllib.impala:build", on_policy=True)
register_lazy("algorithm", "dqn", "embodied_mem.policies.rllib.dqn:build", on_policy=False)
register_lazy("algorithm", "bc", "embodied_mem.policies.rllib.bc:build", on_policy=False)
