"""``embodied-mem list KIND``: what can be chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

from embodied_mem.cli.output import emit_rows
from embodied_mem.errors import UsageError, nearest

Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command("list")
    def list_kind(
        kind: str = typer.Argument(..., help=f"One of: {', '.join(sorted(LISTERS))}."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON array."),
    ) -> None:
        """List what can be chosen by name."""
        if kind not in LISTERS:
            raise UsageError(f"unknown kind {kind!r}{nearest(kind, LISTERS)}; kinds: {', '.join(sorted(LISTERS))}")
        emit_rows(LISTERS[kind](), as_json, title=kind)


def _envs() -> list[Row]:
    from embodied_mem.envs.registration import ENVIRONMENTS

    return [
        {
            "name": item.id,
            "about": item.summary,
            "horizon": item.horizon,
            "memoryless": item.memoryless,
            "oracle": item.oracle,
        }
        for item in ENVIRONMENTS
    ]


def _memories() -> list[Row]:
    from embodied_mem import registry
    from embodied_mem.memory.catalogue import describe

    return [describe(name) for name in registry.names("memory")]


def _stream_memories() -> list[Row]:
    from embodied_mem import registry
    from embodied_mem.stream.memories.catalogue import describe

    return [describe(name) for name in registry.names("stream_memory")]


def _presets() -> list[Row]:
    from embodied_mem.experiments.presets_loader import list_presets

    return list_presets()


def _atlas_presets() -> list[Row]:
    from embodied_mem.experiments.memory_atlas.plan import list_presets

    return list_presets()


def _atlas_probes() -> list[Row]:
    from embodied_mem.experiments.memory_atlas.probes import list_probes

    return list_probes()


def _registry(kind: str) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        from embodied_mem import registry

        out = []
        for name in registry.names(kind):
            target = registry.entry(kind, name).target
            doc = "" if isinstance(target, str) else (inspect.getdoc(target) or "").split("\n")[0]
            out.append({"name": name, "about": registry.meta(kind, name).get("about") or doc})
        return out

    return rows


LISTERS: dict[str, Callable[[], list[Row]]] = {
    "envs": _envs,
    "memories": _memories,
    "stream-memories": _stream_memories,
    "presets": _presets,
    "atlas-presets": _atlas_presets,
    "atlas-probes": _atlas_probes,
    "agents": _registry("agent"),
    "policies": _registry("algorithm"),
    "suites": lambda: [*_registry("suite")(), *_registry("question_suite")()],
    "encoders": _registry("encoder"),
    "answerers": _registry("answerer"),
    "benchmarks": _registry("benchmark"),
    "controls": _registry("control"),
    "benches": _registry("bench"),
}
