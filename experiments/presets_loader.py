"""Presets: named training runs as YAML files in `experiments/presets/`, as users' files, or from plug-ins.

A preset is flat: ``description``, ``cpu_seconds`` (what it takes on one core, about) and the keys of
`policies.training.config.run_config`, or of what `KINDS` names for its ``algorithm``. The file name is its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from embodied_mem import registry
from embodied_mem.errors import UsageError, nearest
from embodied_mem.policies.imitation.config import (
    ALGORITHM,
    ImitationRunConfig,
    apply_imitation_overrides,
    imitation_config,
)
from embodied_mem.policies.navigation import clause_config as clauses
from embodied_mem.policies.navigation import config as street
from embodied_mem.policies.rllib.vla_config import ALGORITHM as VLA_PPO
from embodied_mem.policies.training.config import RunConfig, apply_overrides, run_config
from embodied_mem.policies.training.vla import VLARunConfig, apply_vla_overrides, vla_config

HERE = Path(__file__).parent / "presets"
ABOUT = ("description", "cpu_seconds")


Config = RunConfig | ImitationRunConfig | street.StreetRunConfig | clauses.ClauseRunConfig
"""What a preset becomes."""


class Kind(NamedTuple):
    """How settings of one sort are read, held and changed."""

    read: Callable[[Mapping[str, Any]], Any]
    """Flat keys -> config."""
    config: type[Any]
    """Class of the config."""
    override: Callable[[Any, Mapping[str, Any]], Any]
    """Config and changed keys -> config."""


KINDS: dict[str, Kind] = {
    ALGORITHM: Kind(imitation_config, ImitationRunConfig, apply_imitation_overrides),
    street.ALGORITHM: Kind(street.street_config, street.StreetRunConfig, street.apply_street_overrides),
    clauses.ALGORITHM: Kind(clauses.clause_config, clauses.ClauseRunConfig, clauses.apply_clause_overrides),
    VLA_PPO: Kind(vla_config, VLARunConfig, apply_vla_overrides),
}
"""Algorithms with settings of their own."""
PLAIN = Kind(run_config, RunConfig, apply_overrides)
"""All other algorithms."""


def kind_of(config: Config) -> Kind:
    """Return how a config is read, held and changed."""
    return next((kind for kind in KINDS.values() if type(config) is kind.config), PLAIN)


@dataclass(frozen=True)
class Preset:
    """A named training run."""

    name: str
    """What the command line calls it."""
    description: str
    """One line."""
    cpu_seconds: float | None
    """CPU seconds one seed takes, about; None where it was not measured."""
    config: Config
    """What it runs."""


def load_preset(name: str) -> Preset:
    """Return the preset of this name, or the one in a YAML file given by its path.

    Raises:
        UsageError: there is none (the nearest is named), or its content is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    built_in = _built_in()
    if name in built_in:
        return _from_file(built_in[name])
    plugged = registry.names("preset")
    if name not in plugged:
        known = sorted([*built_in, *plugged])
        raise UsageError(f"unknown preset {name!r}{nearest(name, known)}; available: {', '.join(known)}, or FILE.yaml")
    value = registry.get("preset", name)
    return _from_mapping(name, value, f"preset {name!r}") if isinstance(value, Mapping) else _from_file(Path(value))


def list_presets() -> list[dict[str, Any]]:
    """Return name, description, environment, memory and expected CPU seconds of every preset."""
    rows = []
    for name in sorted([*_built_in(), *registry.names("preset")]):
        preset = load_preset(name)
        train = preset.config.train
        rows.append(
            {
                "name": name,
                "description": preset.description,
                "env": train.env,
                "memory": train.agent.memory,
                "algorithm": train.algorithm,
                "cpu_seconds": preset.cpu_seconds,
            }
        )
    return rows


def _built_in() -> dict[str, Path]:
    return {path.stem: path for path in sorted(HERE.glob("*.yaml"))}


def _from_file(path: Path) -> Preset:
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except OSError as error:
        raise UsageError(f"cannot read the preset {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return _from_mapping(path.stem, value, str(path))


def _from_mapping(name: str, value: Any, where: str) -> Preset:
    if not isinstance(value, Mapping):
        raise UsageError(f"expected a mapping in {where}, got {type(value).__name__}")
    about = {key: value[key] for key in ABOUT if key in value}
    if not isinstance(about.get("description"), str):
        raise UsageError(f"expected a text under 'description' in {where}, got {about.get('description')!r}")
    seconds = about.get("cpu_seconds")
    if seconds is not None and not isinstance(seconds, int | float):
        raise UsageError(f"expected a number under 'cpu_seconds' in {where}, got {seconds!r}")
    try:
        flat = {key: item for key, item in value.items() if key not in ABOUT}
        config = KINDS.get(str(value.get("algorithm")), PLAIN).read(flat)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return Preset(name, " ".join(about["description"].split()), seconds, config)


def _loader() -> type:
    """Return a YAML loader that reads ``1e-3`` as a number, as the command line does (YAML 1.1 wants 1.0e-3)."""
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {key: list(value) for key, value in Loader.yaml_implicit_resolvers.items()}
    number = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader
