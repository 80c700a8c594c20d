"""Agents that follow instructions on a street graph, learnt from synthetic ones.

Import name: `embodied_mem.policies.navigation`.

- `lessons`: teacher walks and varied texts as tensors. `following`: the loss of a whole episode. `config`: its keys.
- `street_seed`: one training seed, on the loop of `policies.imitation`.
"""
