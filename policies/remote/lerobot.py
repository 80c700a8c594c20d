"""A LeRobot policy in a folder as an agent: ``--agent lerobot:DIR`` (package ``lerobot`` >= 0.4, not a dependency).

The policy's own processors normalise, so an environment gives raw values: pictures uint8, states and actions in the
units of the data it was trained on. Names: the policy's only picture is ``rgb``, ``observation.state`` is ``vector``,
the task text is ``instruction``; others are given behind ``?`` as ``OURS=THEIRS``, beside ``execute``, ``prompt`` and
``device``.

Limits. Chunks are asked for with ``predict_action_chunk`` for all rows that need one and played here, since LeRobot's
own queues hold all rows together and cannot be reset for one. Policies that keep past observations (``n_obs_steps``
above 1) or blend chunks (temporal ensembling) are therefore refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.policies.remote.chunks import ChunkAgent
from embodied_mem.registry import register

STATE = "observation.state"


@register("agent", "lerobot", argument="DIR", about="a LeRobot policy in a folder (package lerobot)")
class LeRobotAgent(ChunkAgent):
    """Runs a LeRobot policy on batches of rows."""

    prompt_name = "task"

    def __init__(self, argument: str, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Load the policy.

        Args:
            argument: folder (``pretrained_model``) and options, see the module.
            observation_space: what the environment shows (one row).
            action_space: what it takes; a Box.

        Raises:
            UsageError: the package or the folder is missing, the policy keeps state of its own, or it reads something
                that the environment does not show.
        """
        folder, _, options = argument.partition("?")
        super().__init__(options, observation_space, action_space)
        self.device = resolve_device(self.given.pop("device", "auto"))
        self._finish()
        self.policy, self.before, self.after = _load(Path(folder), self.device)
        features = {name: tuple(item.shape) for name, item in self.policy.config.input_features.items()}
        self.names = self.given_names | self._guess(features)
        missing = sorted(set(features) - set(self.names.values()))
        if missing:
            raise UsageError(
                f"the policy in {folder} reads {', '.join(missing)}, the environment shows {', '.join(self.shown)}; "
                "name them behind '?': OURS=THEIRS"
            )
        for here, there in self.names.items():
            shown = self.shown[here].shape or ()
            wanted = features.get(there)
            # LeRobot puts channels first.
            given = (shown[2], *shown[:2]) if len(shown) == 3 else shown
            if wanted is not None and wanted != given:
                raise UsageError(f"the policy reads {there} of shape {wanted}, the environment shows {given}")

    @torch.inference_mode()
    def plan(self, obs: Mapping[str, Any], rows: int) -> np.ndarray:
        """Return chunks (rows, H, A) float32."""
        batch = {name: self._tensor(value) for name, value in obs.items()}
        chunk = self.policy.predict_action_chunk(self.before(batch))
        flat = self.after(chunk.flatten(0, 1))
        return flat.unflatten(0, chunk.shape[:2]).float().cpu().numpy()

    def _guess(self, features: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        """Return names for what was not named: the only picture, the state, the instruction."""
        pictures = [name for name, shape in features.items() if len(shape) == 3]
        taken = set(self.given_names.values())
        guessed = {"rgb": pictures[0]} if len(pictures) == 1 else {}
        guessed |= {"vector": STATE} if STATE in features else {}
        guessed |= {"instruction": self.prompt_name}
        return {
            here: there
            for here, there in guessed.items()
            if here in self.shown and here not in self.given_names and there not in taken
        }

    def _tensor(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        tensor = torch.from_numpy(np.ascontiguousarray(value)).to(self.device)
        if tensor.dtype == torch.uint8 and tensor.dim() == 4:
            return tensor.permute(0, 3, 1, 2).float() / 255
        return tensor.float()


def _load(folder: Path, device: str) -> tuple[Any, Any, Any]:
    try:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    except ImportError as problem:
        raise UsageError(
            f"agent 'lerobot' needs the package lerobot >= 0.4 ({problem}): pip install lerobot"
        ) from problem
    if not (folder / "config.json").is_file():
        raise UsageError(f"expected a LeRobot policy (config.json) in {folder}, found none")
    config = PreTrainedConfig.from_pretrained(str(folder))
    config.device = device
    if getattr(config, "n_obs_steps", 1) > 1 or getattr(config, "temporal_ensemble_coeff", None) is not None:
        raise UsageError(
            f"the {config.type} policy in {folder} keeps past observations or chunks inside, which cannot be reset row "
            "by row; only policies with n_obs_steps = 1 and without temporal ensembling can be played"
        )
    policy = get_policy_class(config.type).from_pretrained(str(folder), config=config).to(device).eval()
    overrides = {"device_processor": {"device": device}}
    before, after = make_pre_post_processors(config, pretrained_path=str(folder), preprocessor_overrides=overrides)
    return policy, before, after
