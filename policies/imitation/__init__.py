"""The supervised trainer of policies with a memory: demonstrations, memory-aware batches, one resumable loop.

Import name: `embodied_mem.policies.imitation`.

- `config`: `ImitationConfig` and the flat keys of presets. `episode`: one demonstration.
- `demonstrations`: what experts do, recorded and cached. `batches`: episodes to rows of frames.
- `trainer`, `run`: the loop.
"""
