"""What a decision was made of, for any memory: the gradient of the chosen action's score at step t with respect to the
features of every observation s <= t (saliency, Simonyan et al. 2014), from a replay of the recorded episode.

A memory that names what it reads (``inspect``) is shown by its own weights as well; this is the view that all memories
share, recurrent ones included. It says what would change the score, not how the memory stores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from embodied_mem.agent import MemoryAgent

DECISIONS = 48


def influence(
    module: MemoryAgent, obs: Mapping[str, Sequence[np.ndarray]], actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the influence of past observations on the decisions of one episode.

    Args:
        module: the agent that played.
        obs: named observations, T arrays each, as the agent saw them.
        actions: (T, ...) what it did.

    Returns:
        (K, T) float32 gradient norms and the K decision steps (K,) int64, evenly spaced, at most `DECISIONS`; None
        where the memory keeps no gradient.
    """
    device = module.head.out.weight.device
    total = len(actions)
    steps = np.unique(np.linspace(0, total - 1, min(total, DECISIONS)).round().astype(np.int64))
    features: list[Tensor] = []

    def detach(encoder: Any, inputs: Any, output: Tensor) -> Tensor:
        features.append(output.detach().requires_grad_())
        return features[-1]

    hook = module.encoder.register_forward_hook(detach)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            named = {name: torch.from_numpy(np.stack(values)).to(device)[None] for name, values in obs.items()}
            resets = torch.zeros(1, total, dtype=torch.bool, device=device)
            resets[0, 0] = True
            inputs, _, _, _ = module.sequence(named, None, resets)
            scores = _scores(module.action_space, inputs[0], actions)
            rows = []
            for step in steps.tolist():
                (gradient,) = torch.autograd.grad(scores[step], features[0], retain_graph=True, allow_unused=True)
                if gradient is None:
                    return None
                rows.append(gradient[0].norm(dim=-1).float().cpu().numpy())
    finally:
        hook.remove()
    return np.stack(rows), steps


def _scores(space: spaces.Space, inputs: Tensor, actions: np.ndarray) -> Tensor:
    """Return (T,) how much each chosen action stood out: its logits above the mean, or a Box mean along the action."""
    if isinstance(space, spaces.Discrete):
        sizes, chosen = [int(space.n)], np.asarray(actions).reshape(-1, 1) - int(space.start)
    elif isinstance(space, spaces.MultiDiscrete):
        sizes, chosen = [int(n) for n in space.nvec.reshape(-1)], np.asarray(actions).reshape(len(actions), -1)
    else:
        taken = torch.from_numpy(np.asarray(actions, dtype=np.float32).reshape(len(actions), -1)).to(inputs.device)
        return (inputs[:, : taken.shape[1]] * taken).sum(-1)
    picked = torch.from_numpy(np.ascontiguousarray(chosen)).long().to(inputs.device)
    parts = inputs.split(sizes, dim=-1)
    gathered = [part.gather(-1, picked[:, i : i + 1])[:, 0] - part.mean(-1) for i, part in enumerate(parts)]
    return torch.stack(gathered).sum(0)
