"""The floors of the design: a file imports from its own floor and below, and no module imports in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    ("_version", "data", "errors", "files"),
    ("registry", "devices", "private_ray"),
    ("config",),
    ("spaces",),
    ("geometry",),
    ("metrics",),
    ("results",),
    ("wire",),
    ("kernels",),
    ("envs",),
    ("perception",),
    ("memory",),
    ("agent", "heads"),
    ("demonstrations",),
    ("stream",),
    ("policies",),
    ("evaluation",),
    ("viewer",),
    ("experiments",),
    ("cli",),
]
FLOOR = {name: height for height, group in enumerate(FLOORS) for name in group}
# Names that a top-level folder must never be imported by (users and other packages own them).
TWINS = ("envs", "policies", "kernels", "experiments")
HEAVY = ("ray", "diffusers", "open_clip", "ai2thor", "mujoco", "rerun", "numba", "wandb")


def modules() -> dict[str, Path]:
    found = {}
    for folder in ("embodied_mem", *TWINS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if folder == "embodied_mem" and len(relative.parts) > 1 and relative.parts[1] in TWINS:
                continue
            parts = relative.with_suffix("").parts
            if folder != "embodied_mem":
                parts = ("embodied_mem", *parts)
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Absolute names of what a file imports (TYPE_CHECKING blocks are left out)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        pending.extend(ast.iter_child_nodes(node))
    return found


def floor_of(module: str) -> int | None:
    parts = module.split(".")
    return FLOOR.get(parts[1]) if len(parts) > 1 else None


def test_every_module_has_a_floor():
    homeless = [name for name in MODULES if name != "embodied_mem" and floor_of(name) is None]
    assert not homeless, f"not on any floor: {homeless}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"embodied_mem"}))
def test_imports_point_down(module):
    own = floor_of(module)
    for imported in imports(MODULES[module]):
        assert imported.split(".")[0] not in TWINS, f"{module} imports the top-level name {imported}"
        if imported == "embodied_mem.cli" or not imported.startswith("embodied_mem."):
            continue
        height = floor_of(imported)
        assert height is not None and height <= own, f"{module} (floor {own}) imports {imported} (floor {height})"


def test_no_cycles():
    graph = {
        name: {item for item in imports(path, top_level_only=True) if item in MODULES and item != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        assert name not in trail, f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
        trail.append(name)
        for item in sorted(graph[name]):
            visit(item)
        trail.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_links_map_the_top_level_folders():
    for twin in TWINS:
        link = ROOT / "embodied_mem" / twin
        assert link.resolve() == (ROOT / twin).resolve()
        first = (ROOT / twin / "__init__.py").read_text(encoding="utf-8").splitlines()[0]
        assert f"embodied_mem.{twin}" in first


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_are_small_rooms(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= 600, f"{module} has {lines} lines; split it by concept"


def test_package_inits_import_nothing_heavy():
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        heavy = {item.split(".")[0] for item in imports(path, top_level_only=True)} & set(HEAVY)
        assert not heavy, f"{name} imports {heavy} at the top"
