"""Training runs: the loop around an RLlib algorithm, run folders, checkpoints and resume, loggers, sweeps.

Import name: `embodied_mem.policies.training`. Nothing here imports Ray before a run starts.

- `config`: `RunConfig` (training, stop criteria, checkpoints, logs) and the flat keys of presets and overrides.
- `run`: `train_run`, several seeds one after another; `seed_run`: one seed.
- `checkpoints`, `records`, `loggers`, `cpu_time`: what a run writes and counts. `sweep`: Ray Tune over overrides.
"""
