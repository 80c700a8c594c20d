"""Presets: named training runs as YAML files in `experiments/presets/`, as users' files, or from plug-ins.

A preset is flat: ``description``, ``cpu_seconds`` (what it takes on one core, about) and the keys of
`policies.training.config.run_config`, of `policies.imitation.config.imitation_config` where ``algorithm`` is
``imitation``, of `policies.navigation.config.street_config` where it is ``street``, and of
`policies.navigation.clause_config.clause_config` where it is ``clauses``. The file name is its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied_mem import registry
from embodied_mem.errors import UsageError, nearest
from embodied_mem.policies.imitation.config import ALGORITHM, ImitationRunConfig, imitation_config
from embodied_mem.policies.navigation import clause_config as clauses
from embodied_mem.policies.navigation import config as street
from embodied_mem.policies.training.config import RunConfig, run_config

HERE = Path(__file__).parent / "presets"
ABOUT = ("description", "cpu_seconds")


READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    ALGORITHM: imitation_config,
    street.ALGORITHM: street.street_config,
    clauses.ALGORITHM: clauses.clause_config,
}
"""Algorithms that are not RLlib's -> what reads their keys."""


@dataclass(frozen=True)
class Preset:
    """A named training run."""

    name: str
    """What the command line calls it."""
    description: str
    """One line."""
    cpu_seconds: float | None
    """CPU seconds one seed takes, about; None where it was not measured."""
    config: RunConfig | ImitationRunConfig | street.StreetRunConfig | clauses.ClauseRunConfig
    """What it runs; ``algorithm`` imitation, street and clauses make it the second, the third and the last."""


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
        config = READERS.get(str(value.get("algorithm")), run_config)(flat)
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
