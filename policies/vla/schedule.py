"""Noise schedules over action chunks: DDIM, DPM-Solver++ and flow matching, with the samplers of diffusers.

    ddim, dpm   x_k = sqrt(a_k) x + sqrt(1 - a_k) e,   a squared-cosine schedule of ``train_steps`` levels
    flow        x_s = (1 - s) x + s e,   the network predicts e - x,   s uniform in (0, 1)

Samplers run with trailing time steps, so that they start at the level of pure noise that they are started with. DDIM
has eta 0: for given noise the result is always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.config import ScheduleConfig
from embodied_mem.policies.vla.draws import Draws

FLOW_LEVELS = 1000
"""Scale on which the network is told the level of flow matching."""


class Schedule:
    """Makes noisy training samples and takes the noise away."""

    def __init__(self, config: ScheduleConfig) -> None:
        """Build the scheduler of diffusers.

        Raises:
            UsageError: diffusers is missing.
        """
        self.config = config
        self.flow = config.kind == "flow"
        self._scheduler = _make(config)

    @property
    def levels(self) -> int:
        """Largest level that the network is told, plus one."""
        return FLOW_LEVELS if self.flow else self.config.train_steps

    def noised(self, actions: Tensor, noise: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy actions, their level and what the network should predict.

        Args:
            actions: (n, T, A) float32 in [-1, 1].
            noise: (n, T, A) standard normal.
            draws: of the levels.

        Returns:
            x (n, T, A), level (n,) float32, target (n, T, A).
        """
        n = len(actions)
        if self.flow:
            s = draws.uniform(n)
            wide = s.view(n, 1, 1)
            return (1 - wide) * actions + wide * noise, s * FLOW_LEVELS, noise - actions
        level = draws.integers(self.config.train_steps, n)
        noisy = self._scheduler.add_noise(actions, noise, level)
        if self.config.predict == "epsilon":
            target = noise
        elif self.config.predict == "sample":
            target = actions
        else:
            target = self._scheduler.get_velocity(actions, noise, level)
        return noisy, level.float(), target

    def denoise(self, network: Callable[[Tensor, Tensor], Tensor], noise: Tensor, through: int | None = None) -> Tensor:
        """Return actions (n, T, A) float32 for ``noise`` (n, T, A).

        Args:
            network: noisy actions (n, T, A) and level (n,) float32 to its prediction (n, T, A).
            noise: standard normal, or 0.
            through: steps, the last ones, that gradients pass through; None for all.
        """
        scheduler = self._scheduler
        # Also empties what multi-step solvers keep between calls.
        scheduler.set_timesteps(self.config.steps)
        x, cut = noise, 0 if through is None else len(scheduler.timesteps) - through
        for number, level in enumerate(scheduler.timesteps):
            told = torch.full((len(x),), float(level), device=x.device)
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= cut):
                x = scheduler.step(network(x, told), level, x).prev_sample
        return x


def _make(config: ScheduleConfig) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise UsageError(f"the action expert needs the package diffusers: {error}; pip install diffusers") from error
    if config.kind == "flow":
        return diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=FLOW_LEVELS)
    common: dict[str, Any] = {
        "num_train_timesteps": config.train_steps,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": config.predict,
        "timestep_spacing": "trailing",
    }
    if config.kind == "dpm":
        # At the first level almost nothing is left of the actions, so an uncut estimate of them explodes.
        return diffusers.DPMSolverMultistepScheduler(thresholding=True, sample_max_value=1.0, **common)
    return diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=1.0, **common)
