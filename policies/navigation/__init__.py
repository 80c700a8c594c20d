"""Agents that follow instructions on a street graph, learnt from synthetic ones.

Import name: `embodied_mem.policies.navigation`.

- `lessons`: teacher walks and varied texts as tensors. `following`: the loss of a whole episode. `config`: its keys.
- `street_seed`: one training seed of an agent with any registered memory, on the loop of `policies.imitation`.
- `clauses`, `odometer`, `clause_follower`: an instruction as clauses, the walker's counts, the network over both;
  `clause_lessons`, `clause_config`, `clause_seed`: how it is learnt; `clause_agent`: it as an `Agent`, and its bundle.
"""

from embodied_mem.registry import register_lazy

register_lazy("bundle", "clauses", "embodied_mem.policies.navigation.clause_agent:load_clauses")
