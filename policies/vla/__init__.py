"""Vision-language-action policies with a memory: perception, any registered memory, a diffusion action expert.

Import name: `embodied_mem.policies.vla`. Nothing here imports diffusers, open_clip or transformers before it is used.

- `config`: `VLAConfig`. `tokens`, `open_clip_tokens`, `language_model`: perception. `fusion`: the memory.
- `expert`, `schedule`: the diffusion transformer over action chunks. `normalise`: actions and state to [-1, 1].
- `policy`: all of it as one module. `agent`: the module as an `Agent`, and its bundle.
"""

from embodied_mem.registry import register_lazy

register_lazy("bundle", "vla", "embodied_mem.policies.vla.agent:load_vla")
