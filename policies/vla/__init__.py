"""Policies with a memory between the tokens of a frame and its actions: any registered memory, three ways to act.

Import name: `embodied_mem.policies.vla`. Nothing here imports diffusers, open_clip or transformers before it is used.

- `config`: `VLAConfig`. `tokens`, `open_clip_tokens`, `language_model`: perception. `fusion`: the memory.
- `base`: `TokenPolicy`, what they share. `normalise`: actions to [-1, 1]. `bins`: numbers as distributions.
- `policy`: `VLAPolicy`, actions by diffusion (`expert`, `schedule`), and `make_policy`.
- `key_frames`: `KeyFramePolicy`, a heat map over places; `heat_maps`: the memory that attends to past ones.
- `decision`: `DecisionPolicy`, actions given a return. `agent`: a policy as an `Agent`, and its bundle.
"""

from embodied_mem.registry import register_lazy

register_lazy("bundle", "vla", "embodied_mem.policies.vla.agent:load_vla")
register_lazy("token_memory", "heat_map_attention", "embodied_mem.policies.vla.heat_maps:HeatMapAttention")
