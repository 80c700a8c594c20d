"""What an atlas consists of: memories, probes, seeds and the budget, from a preset or the command line, in its folder.

``OUT/atlas.json`` holds the plan. A resumed atlas may get more memories, probes and seeds; budget, episodes and the
settings of its probes stay, or its cells could not be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embodied_mem import registry
from embodied_mem._version import __version__
from embodied_mem.agent import MemoryAgent
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError, nearest
from embodied_mem.experiments.memory_atlas.cell import Cell, cell_config
from embodied_mem.experiments.memory_atlas.probes import find
from embodied_mem.files import atomic_write_json, read_json

HERE = Path(__file__).parent / "presets"
PLAN_FILE = "atlas.json"
SEEDS, CPU_SECONDS, EPISODES = (0, 1, 2), 30.0, 128
KEYS: dict[str, tuple[Any, Any]] = {
    "description": (str, None),
    "memories": (list, str),
    "probes": (list, str),
    "seeds": (list, int),
    "cpu_seconds": ((int, float), None),
    "episodes": (int, None),
}
"""What a preset may hold: the type, and that of the items."""


@dataclass(frozen=True)
class Plan:
    """An atlas: every memory on every probe with every seed."""

    name: str
    """Of the preset, or "custom"."""
    memories: tuple[str, ...]
    """Registered memories, in the order of the rows."""
    probes: tuple[str, ...]
    """Keys of `probes.PROBES`."""
    seeds: tuple[int, ...] = SEEDS
    """Training seeds of every pair."""
    cpu_seconds: float = CPU_SECONDS
    """CPU budget of one cell's training."""
    episodes: int = EPISODES
    """Unseen episodes played after the training."""

    @property
    def cells(self) -> list[Cell]:
        """All cells; seeds vary slowest, so that an interrupted atlas is whole with fewer seeds."""
        return [Cell(m, p, s) for s, m, p in itertools.product(self.seeds, self.memories, self.probes)]


def make_plan(
    preset: str | None,
    memories: Sequence[str] | None = None,
    probes: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    cpu_seconds: float | None = None,
    episodes: int | None = None,
) -> Plan:
    """Return the plan of a preset with what is given replaced, checked but for what `validate` checks.

    Raises:
        UsageError: an unknown preset, memory or probe, a doubled name, a number out of range, or nothing to run.
    """
    values: dict[str, Any] = {} if preset is None else load(preset)
    given = {"memories": memories, "probes": probes, "seeds": seeds, "cpu_seconds": cpu_seconds, "episodes": episodes}
    values |= {key: value for key, value in given.items() if value is not None}
    for key in ("memories", "probes"):
        if not values.get(key):
            raise UsageError(f"expected a preset ({', '.join(preset_names())}) or --memories a,b and --probes x,y")
    plan = Plan(
        "custom" if preset is None else Path(preset).stem,
        tuple(values["memories"]),
        tuple(values["probes"]),
        tuple(values.get("seeds", SEEDS)),
        float(values.get("cpu_seconds", CPU_SECONDS)),
        int(values.get("episodes", EPISODES)),
    )
    for memory in plan.memories:
        registry.get("memory", memory)
    for probe in plan.probes:
        find(probe)
    for key, chosen in (("memories", plan.memories), ("probes", plan.probes), ("seeds", plan.seeds)):
        if not chosen or len(set(chosen)) != len(chosen):
            raise UsageError(f"expected distinct {key}, got {list(chosen)}")
    if any(seed < 0 for seed in plan.seeds) or not plan.cpu_seconds > 0 or plan.episodes < 1:
        raise UsageError(
            "expected seeds >= 0, cpu_seconds > 0 and episodes >= 1, got "
            f"seeds {list(plan.seeds)}, cpu_seconds {plan.cpu_seconds:g}, episodes {plan.episodes}"
        )
    return plan


def preset_names() -> list[str]:
    """Return the names of the built-in presets."""
    return [path.stem for path in sorted(HERE.glob("*.yaml"))]


def list_presets() -> list[dict[str, Any]]:
    """Return name, description and size of every built-in preset."""
    rows = []
    for name in preset_names():
        plan = make_plan(name)
        minutes = len(plan.cells) * plan.cpu_seconds / 60
        rows.append(
            {
                "name": name,
                "description": load(name)["description"],
                "memories": len(plan.memories),
                "probes": len(plan.probes),
                "seeds": list(plan.seeds),
                "cpu_seconds": plan.cpu_seconds,
                "cpu_minutes": round(minutes, 1),
            }
        )
    return rows


def load(preset: str) -> dict[str, Any]:
    """Return the keys of a preset: a built-in one by name, or a YAML file by its path.

    Raises:
        UsageError: there is none, or its content is wrong.
    """
    import yaml

    path = Path(preset) if preset.endswith((".yaml", ".yml")) else HERE / f"{preset}.yaml"
    if path.parent == HERE and not path.is_file():
        known = preset_names()
        raise UsageError(
            f"unknown atlas preset {preset!r}{nearest(preset, known)}; available: {', '.join(known)}, or FILE.yaml"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the preset {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, Mapping):
        raise UsageError(f"expected a mapping in {path}, got {type(values).__name__}")
    for key, value in values.items():
        if key not in KEYS:
            raise UsageError(f"{path}: unknown key {key!r}{nearest(str(key), KEYS)}; valid keys: {', '.join(KEYS)}")
        kind, items = KEYS[key]
        wrong = not isinstance(value, kind) or (isinstance(value, list) and not all(type(v) is items for v in value))
        if wrong:
            what = f"a list of {items.__name__}" if items else "text" if kind is str else "a number"
            raise UsageError(f"{path}: expected {what} under {key!r}, got {value!r}")
    return dict(values)


def validate(plan: Plan) -> None:
    """Build every pair of memory and probe once, before the first cell runs.

    Raises:
        UsageError: a memory cannot be built for a probe with its defaults.
    """
    for probe in map(find, plan.probes):
        with closing(make_vec(probe.env, 1, **probe.train)) as env:
            for memory in plan.memories:
                agent = cell_config(memory, probe, plan.cpu_seconds).train.agent
                try:
                    MemoryAgent.build(agent, env.single_observation_space, env.single_action_space)
                except UsageError as error:
                    raise UsageError(f"memory {memory!r} cannot play probe {probe.name!r}: {error}") from error


def open_folder(out: Path, plan: Plan, resume: bool) -> Plan:
    """Check that ``plan`` may run in ``out``, write it there, and return the plan of all cells of the folder.

    Raises:
        UsageError: the folder is no atlas, or holds one and ``resume`` is not set, or one that cannot be compared.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a folder at {out}, found a file")
    whole = plan
    if (out / PLAN_FILE).is_file():
        if not resume:
            raise UsageError(f"{out} holds an atlas already; continue it with --resume or give another --out")
        stored = stored_plan(out)
        changed = [
            f"{key} {getattr(stored, key):g}, not {getattr(plan, key):g}"
            for key in ("cpu_seconds", "episodes")
            if getattr(stored, key) != getattr(plan, key)
        ]
        settings = read_json(out / PLAN_FILE)["settings"]
        for name in plan.probes:
            if settings.get(name, _settings(name)) != _settings(name):
                changed.append(f"other settings of probe {name}")
        if changed:
            raise UsageError(f"{out} holds an atlas with {'; '.join(changed)}: its cells could not be compared")
        merged: dict[str, Any] = {
            key: _union(getattr(stored, key), getattr(plan, key)) for key in ("memories", "probes", "seeds")
        }
        whole = replace(stored, **merged)
    elif out.exists() and any(out.iterdir()):
        what = "nothing to resume" if resume else "other files are"
        raise UsageError(f"{what} in {out}: expected the folder of an atlas, or an empty or new one")
    settings = {name: _settings(name) for name in whole.probes}
    atomic_write_json(out / PLAN_FILE, {"version": __version__, "plan": asdict(whole), "settings": settings})
    return whole


def stored_plan(out: Path) -> Plan:
    """Return the plan of the atlas in ``out``.

    Raises:
        UsageError: there is none.
    """
    if not (out / PLAN_FILE).is_file():
        raise UsageError(f"nothing to resume in {out}: expected {PLAN_FILE}; give the folder of an atlas")
    try:
        values = read_json(out / PLAN_FILE)["plan"]
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return Plan(**given)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{out / PLAN_FILE} is no plan of an atlas ({error!r})") from error


def _settings(name: str) -> dict[str, Any]:
    """Return what a probe is, in the form in which JSON gives it back."""
    probe = asdict(find(name))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in probe.items()}


def _union(old: Sequence[Any], new: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*old, *new]))
