"""Memories made of memories: what `stack`, `residual`, `hybrid`, `frozen` and `hierarchical` have in common.

A part is named in the config, ``{name: gated_delta, config: {heads: 8}}``; its widths come from where it stands. Parts
may be composed themselves. The state of part p lies under ``p/``, so nested states stay one flat dict.

What a composed memory is follows from its parts: it needs what any of them needs, is "stateless" and "compilable" if
all of them are, "hard_write", "segment_window" and "soft_reset" if one is, and as parallel as the least parallel one.
A soft reset reaches the parts that know it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import EXTRAS, MemoryConfig, MemoryInput, MemoryModule, State, StateSpec

__all__ = ["Composed", "Part", "Plan", "plan", "skip_connection", "under", "within"]

Plan = tuple[type[MemoryModule], MemoryConfig]

_OF_ALL = frozenset({"stateless", "compilable"})
_FROM_PARALLEL_TO_LOOP: tuple[Literal["scan", "chunk", "attend", "loop"], ...] = ("scan", "chunk", "attend", "loop")


@dataclass(frozen=True)
class Part:
    """A memory inside another one."""

    name: str
    """Registered memory (``embodied-mem list memories``)."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its options; in_dim and out_dim follow from where it stands."""


def plan(part: Part, where: str, in_dim: int, out_dim: int) -> Plan:
    """Return class and config of ``part``, which stands at the config key ``where`` between the two widths.

    Raises:
        UsageError: no memory has that name, a key or a value is wrong, or another width is asked for.
    """
    try:
        cls: type[MemoryModule] = registry.get("memory", part.name)
    except UsageError as error:
        raise UsageError(f"{where}.name: {error}") from None
    widths = {"in_dim": in_dim, "out_dim": out_dim}
    for key, width in widths.items():
        if part.config.get(key, width) != width:
            raise UsageError(f"expected {key} = {width} for {where!r}, which follows from its place; leave it out")
    return cls, from_dict(cls.Config, {**part.config, **widths}, f"{where}.config.")


class Composed(MemoryModule):
    """Memory with parts; a subclass names them (`plans`) and says how they are joined (the two forms)."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__(config)
        self.parts = nn.ModuleDict({name: cls(inner) for name, (cls, inner) in self.plans(config).items()})
        parts = list(self.inner().values())
        self.needs = frozenset().union(*(part.needs for part in parts))
        some = frozenset[str]().union(*(part.properties for part in parts))
        self.properties = (some - _OF_ALL) | _OF_ALL.intersection(*(part.properties for part in parts))
        self.parallel = max((part.parallel for part in parts), key=_FROM_PARALLEL_TO_LOOP.index)

    @classmethod
    @abstractmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return class and config of every part, by the name under which its state lies; the first reads ``x``."""

    @abstractmethod
    def own_macs(self) -> int:
        """Return multiply-accumulates of one step outside the parts."""

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random input of the kind that the parts read."""
        first, *others = (memory.sample_input(inner, n, T, generator) for memory, inner in cls.plans(config).values())
        for other in others:
            found = {key: getattr(other, key) for key in EXTRAS if getattr(first, key) is None}
            first = first._replace(**found)
        return first

    def inner(self) -> dict[str, MemoryModule]:
        """Return the parts by name."""
        return dict(self.parts.items())  # type: ignore[arg-type]

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the states of the parts, every key under the name of its part."""
        return {key: spec for name, part in self.inner().items() for key, spec in within(name, part.state_spec())}

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the initial value that the part gives."""
        name, _, inner = key.partition("/")
        return self.inner()[name].fresh(inner, spec, n, device, dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Parts, and what joins them."""
        return self.own_macs() + sum(part.macs_per_token(t) for part in self.inner().values())

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return those of the parts."""
        return {
            key: age for name, part in self.inner().items() for key, age in within(name, part.ages(under(state, name)))
        }

    def aux_losses(self) -> dict[str, Tensor]:
        """Return those of the parts."""
        return {key: loss for name, part in self.inner().items() for key, loss in within(name, part.aux_losses())}

    def pack(self, state: State) -> State:
        """Return the state as the parts pack it."""
        return {
            key: value
            for name, part in self.inner().items()
            for key, value in within(name, part.pack(under(state, name)))
        }

    def unpack(self, state: State) -> State:
        """Undo `pack`."""
        return {
            key: value
            for name, part in self.inner().items()
            for key, value in within(name, part.unpack(under(state, name)))
        }

    def step_part(
        self,
        name: str,
        inputs: MemoryInput,
        state: State,
        reset: Tensor | None,
        *,
        donate: bool,
        soft_reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Advance part ``name`` by one token: y (n, out_dim) and its new state, under its name."""
        part: Any = self.parts[name]
        soft = {} if soft_reset is None or "soft_reset" not in part.properties else {"soft_reset": soft_reset}
        y, new = part.forward_step(inputs, under(state, name), reset, donate=donate, **soft)
        return y, dict(within(name, new))

    def run_part(
        self,
        name: str,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        soft_resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Advance part ``name`` by T tokens that are 0 where padded: y (n, T, out_dim), its new state."""
        part: Any = self.parts[name]
        soft = {} if soft_resets is None or "soft_reset" not in part.properties else {"soft_resets": soft_resets}
        y, new = part.forward_sequence(inputs, under(state, name), resets, valid=valid, chunk=chunk, **soft)
        return y, dict(within(name, new))


def under(state: Mapping[str, Tensor], name: str) -> State:
    """Return the state of one part, without its prefix.

    >>> under({"a/h": torch.zeros(1), "b/h": torch.ones(1)}, "b")
    {'h': tensor([1.])}
    """
    start = f"{name}/"
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}


def within(name: str, items: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the items of one part with its prefix."""
    return [(f"{name}/{key}", value) for key, value in items.items()]


def skip_connection(in_dim: int, out_dim: int) -> nn.Module:
    """Return the identity, or a linear map without bias where the widths differ."""
    return nn.Identity() if in_dim == out_dim else nn.Linear(in_dim, out_dim, bias=False)
