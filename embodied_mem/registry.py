"""One registry for everything that is chosen by name: memories, encoders, agents, suites, algorithms, benches.

A component registers itself with a decorator, so adding one means adding one file:

    @register("memory", "gru", family="gated")
    class GRU(MemoryModule): ...

The first look-up of a kind imports every module of that kind's home package and then every plug-in of the entry-point
group ``embodied_mem.plugins``, so nothing keeps a second list.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from embodied_mem.errors import UsageError, nearest

T = TypeVar("T")

PLUGIN_GROUP = "embodied_mem.plugins"

HOMES: dict[str, tuple[str, ...]] = {
    "memory": ("embodied_mem.memory",),
    "encoder": ("embodied_mem.perception",),
    "stream_memory": ("embodied_mem.stream.memories",),
    "answerer": ("embodied_mem.stream.answerers",),
    "benchmark": ("embodied_mem.stream.benchmarks",),
    "algorithm": ("embodied_mem.policies.rllib",),
    "agent": ("embodied_mem.policies.scripted", "embodied_mem.policies.remote"),
    "bundle": ("embodied_mem.policies.vla", "embodied_mem.policies.navigation"),
    "token_memory": ("embodied_mem.policies.vla",),
    "suite": ("embodied_mem.evaluation.suites",),
    "question_suite": ("embodied_mem.evaluation.question_suites",),
    "control": ("embodied_mem.evaluation.controls",),
    "bench": ("embodied_mem.experiments.bench",),
    "preset": (),
}
# Packages whose submodules import heavy libraries: their `__init__` registers by string instead of being walked.
LAZY_HOMES = frozenset({"embodied_mem.policies.rllib", "embodied_mem.policies.vla", "embodied_mem.policies.navigation"})


@dataclass
class Entry:
    """One registered component; ``target`` is the object, or a ``module:attribute`` string until first use."""

    target: Any
    meta: dict[str, Any]

    def resolve(self) -> Any:
        """Return the object, importing it at first use."""
        if isinstance(self.target, str):
            module, _, attribute = self.target.partition(":")
            self.target = getattr(importlib.import_module(module), attribute)
        return self.target


_ENTRIES: dict[str, dict[str, Entry]] = {kind: {} for kind in HOMES}
_LOADED: set[str] = set()
_PLUGINS_LOADED = False


def register(kind: str, name: str, **meta: Any) -> Callable[[T], T]:
    """Return a decorator that registers a class or function as ``name`` of ``kind``.

    Raises:
        UsageError: the kind does not exist, or the name is taken by another object.

    >>> @register("bench", "doctest-example", doc="an example")
    ... def run(): ...
    >>> get("bench", "doctest-example") is run
    True
    >>> unregister("bench", "doctest-example")
    """

    def decorate(target: T) -> T:
        _add(kind, name, target, meta)
        return target

    return decorate


def register_lazy(kind: str, name: str, target: str, **meta: Any) -> None:
    """Register ``"module:attribute"`` under ``name``; the module is imported when the component is first used."""
    if ":" not in target:
        raise UsageError(f"expected 'module:attribute' for {kind} {name!r}, got {target!r}")
    _add(kind, name, target, meta)


def unregister(kind: str, name: str) -> None:
    """Remove a component (for tests and plug-ins that reload)."""
    _kind(kind).pop(name, None)


@contextmanager
def scope(kind: str) -> Iterator[None]:
    """Undo on exit what was registered or removed under ``kind`` inside (for tests, notebooks and documentation).

    >>> with scope("bench"):
    ...     _ = register("bench", "doctest-example")(print)
    >>> "doctest-example" in names("bench")
    False
    """
    _load(kind)
    before = dict(_kind(kind))
    try:
        yield
    finally:
        _ENTRIES[kind] = before


def get(kind: str, name: str) -> Any:
    """Return the component ``name`` of ``kind``.

    Raises:
        UsageError: there is none; the message lists what is available and names the nearest.
    """
    return entry(kind, name).resolve()


def meta(kind: str, name: str) -> dict[str, Any]:
    """Return what was said about a component at registration."""
    return dict(entry(kind, name).meta)


def names(kind: str) -> list[str]:
    """Return the sorted names of a kind."""
    _load(kind)
    return sorted(_kind(kind))


def entry(kind: str, name: str) -> Entry:
    """Return the registry entry of a component; see `get` for errors."""
    _load(kind)
    found = _kind(kind).get(name)
    if found is None:
        known = sorted(_kind(kind))
        raise UsageError(f"unknown {kind} {name!r}{nearest(name, known)}; available: {', '.join(known) or 'none'}")
    return found


def load_plugins() -> None:
    """Import every entry point of the group ``embodied_mem.plugins`` once, and call it if it is callable.

    A broken plug-in is named in a warning and left out, since it must not stop the components that work.
    """
    global _PLUGINS_LOADED
    if _PLUGINS_LOADED:
        return
    _PLUGINS_LOADED = True
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            warnings.warn(f"plug-in {point.name!r} ({point.value}) was not loaded: {error!r}", stacklevel=2)


def _kind(kind: str) -> dict[str, Entry]:
    if kind not in _ENTRIES:
        raise UsageError(
            f"unknown registry kind {kind!r}{nearest(kind, _ENTRIES)}; kinds: {', '.join(sorted(_ENTRIES))}"
        )
    return _ENTRIES[kind]


def _add(kind: str, name: str, target: Any, meta: dict[str, Any]) -> None:
    entries = _kind(kind)
    old = entries.get(name)
    if old is not None and not _same(old.target, target):
        raise UsageError(f"{kind} {name!r} is registered already (by {old.target!r}); choose another name")
    entries[name] = Entry(target, meta)


def _same(old: Any, new: Any) -> bool:
    if old is new or old == new:
        return True
    where = (getattr(old, "__module__", None), getattr(old, "__qualname__", None))
    return where != (None, None) and where == (getattr(new, "__module__", None), getattr(new, "__qualname__", None))


def _load(kind: str) -> None:
    _kind(kind)
    if kind in _LOADED:
        return
    _LOADED.add(kind)
    try:
        for home in HOMES[kind]:
            _walk(home)
    except BaseException:
        _LOADED.discard(kind)
        raise
    load_plugins()


def _walk(package: str) -> None:
    module = importlib.import_module(package)
    if package in LAZY_HOMES:
        return
    for found in pkgutil.walk_packages(module.__path__, prefix=package + "."):
        if found.name not in sys.modules:
            importlib.import_module(found.name)
