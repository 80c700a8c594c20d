"""`VLARunConfig`: a run of PPO on a policy of `embodied_mem.policies.vla`; `vla_config` reads it from flat keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embodied_mem.config import from_dict, merge_dotted, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.vla_config import VLATrainConfig
from embodied_mem.policies.training.config import RunConfig, check_end, drop_options, expand_keys
from embodied_mem.policies.vla.fusion import find_memory


@dataclass(frozen=True)
class VLARunConfig(RunConfig):
    """A run: learning, end, files."""

    train: VLATrainConfig = field(default_factory=VLATrainConfig)
    """The learning; its keys need no prefix."""

    def __post_init__(self) -> None:
        """Check how the exported policy acts."""
        if self.acting != "mode":
            raise UsageError(f"expected acting 'mode': the spread is not exported with the policy, got {self.acting!r}")


def vla_config(values: Mapping[str, Any]) -> VLARunConfig:
    """Build the configuration from flat keys, as a preset holds them.

    Raises:
        UsageError: an unknown key (the nearest one is named), a wrong value, or no criterion that ends the run.
    """
    base = to_dict(VLARunConfig())
    config = from_dict(VLARunConfig, _over(base, merge_dotted({}, expand_keys(values, VLATrainConfig, VLARunConfig))))
    check_end(config.stop)
    return config


def apply_vla_overrides(config: VLARunConfig, overrides: Mapping[str, Any]) -> VLARunConfig:
    """Return ``config`` with flat dotted keys replaced; another memory drops the options that it does not have.

    Raises:
        UsageError: as `vla_config`.
    """
    tree, changes = to_dict(config), expand_keys(overrides, VLATrainConfig, VLARunConfig)
    drop_options(tree["train"]["agent"], changes, find_memory)
    changed = from_dict(VLARunConfig, merge_dotted(tree, changes))
    check_end(changed.stop)
    return changed


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the groups of ``values`` over it, key by key; option dicts stay whole."""
    merged = dict(base)
    for key, value in values.items():
        whole = key in ("env_config", "memory_config") or not isinstance(value, Mapping)
        merged[key] = value if whole or not isinstance(base.get(key), Mapping) else _over(base[key], value)
    return merged
