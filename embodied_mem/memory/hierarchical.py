"""Memory in parts: the recent window, a bank of what mattered, and a slot for a spatial memory, fused by gates.

    r_p = read of part p,   g_p = sigmoid(W_p [x, r_1, .., r_P] + b_p),   y = skip(x) + sum_p g_p * r_p

Working memory is a ring of the last steps, all of them read; the episodic bank keeps by preference and reads the best
(`episodic`); the spatial slot takes any registered memory by name. Each part is left out by its config, which is how an
ablation is run. The state of part p lies under ``p/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.episodic import Episodic, EpisodicConfig
from embodied_mem.registry import register

__all__ = ["HierarchicalConfig", "HierarchicalMemory"]

# The gates start nearly open, so that every part is heard from the first update.
_GATE_BIAS = 1.0


@dataclass(frozen=True)
class HierarchicalConfig(MemoryConfig):
    """Which parts there are, and how large."""

    working_slots: int = 16
    """Steps of the recent window; 0 leaves working memory out."""
    episodic_slots: int = 64
    """Items of the episodic bank; 0 leaves it out."""
    spatial: str | None = None
    """Registered memory in the spatial slot; None leaves it empty."""
    spatial_config: dict[str, Any] = field(default_factory=dict)
    """Config of the spatial memory, without in_dim and out_dim."""
    heads: int = 1
    """Reading heads of working and episodic memory."""
    key_dim: int = 32
    """Key width of a head."""
    value_dim: int = 64
    """Value width of a head."""
    top_k: int = 8
    """Episodic items a head reads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.working_slots < 0 or self.episodic_slots < 0:
            raise UsageError(
                f"expected slots >= 0, got {self.working_slots} working and {self.episodic_slots} episodic"
            )
        if not (self.working_slots or self.episodic_slots or self.spatial):
            raise UsageError("expected at least one part: working_slots > 0, episodic_slots > 0 or spatial=NAME")
        if self.spatial == "hierarchical":
            raise UsageError("expected another memory than 'hierarchical' in its own spatial slot")


@register(
    "memory",
    "hierarchical",
    family="composed",
    source="working window + episodic bank + spatial slot, gated fusion",
    variants=(
        {"episodic_slots": 0, "working_slots": 8},
        {"working_slots": 2, "episodic_slots": 5, "top_k": 2, "spatial": "gated_delta"},
    ),
)
class HierarchicalMemory(MemoryModule):
    """Working, episodic and spatial memory under one contract."""

    Config = HierarchicalConfig
    parallel = "attend"

    def __init__(self, config: HierarchicalConfig) -> None:
        super().__init__(config)
        self.config: HierarchicalConfig = config
        self.parts = nn.ModuleDict(_build(config))
        parts = self._parts().values()
        self.needs = frozenset().union(*(part.needs for part in parts))
        compilable = (
            frozenset({"compilable"}) if all("compilable" in part.properties for part in parts) else frozenset()
        )
        self.properties = compilable | (frozenset().union(*(part.properties for part in parts)) & {"hard_write"})
        width = len(self.parts) * config.out_dim
        self.gate = nn.Linear(config.in_dim + width, width)
        nn.init.constant_(self.gate.bias, _GATE_BIAS)
        same = config.in_dim == config.out_dim
        self.skip = nn.Identity() if same else nn.Linear(config.in_dim, config.out_dim, bias=False)

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random input of the kind the spatial memory reads."""
        spatial = _spatial(config) if isinstance(config, HierarchicalConfig) else None
        if spatial is None:
            return super().sample_input(config, n, T, generator)
        return spatial[0].sample_input(spatial[1], n, T, generator)

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the states of the parts, every key under the name of its part."""
        return {
            f"{name}/{key}": spec for name, part in self._parts().items() for key, spec in part.state_spec().items()
        }

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the initial value that the part gives."""
        name, _, inner = key.partition("/")
        return self._parts()[name].fresh(inner, spec, n, device, dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Parts, gates and skip."""
        skip = sum(p.numel() for p in self.skip.parameters())
        return self.gate.weight.numel() + skip + sum(part.macs_per_token(t) for part in self._parts().values())

    def aux_losses(self) -> dict[str, Tensor]:
        """Return those of the parts."""
        return {
            f"{name}/{key}": loss for name, part in self._parts().items() for key, loss in part.aux_losses().items()
        }

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Read and write every part; see `MemoryModule.step`."""
        return self._fuse(inputs.x, state, lambda part, inner: part.forward_step(inputs, inner, reset, donate=donate))

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Read and write every part in its parallel form; see `MemoryModule.sequence`."""
        return self._fuse(
            inputs.x,
            state,
            lambda part, inner: part.forward_sequence(inputs, inner, resets, valid=valid, chunk=chunk),
        )

    def inspect(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Return what reads at ``x`` (n, in_dim) attend to.

        Returns:
            ``weights`` and ``age`` (n, S) of the episodic bank, or of working memory where there is no bank; those of
            every part that tells, under ``part/weights`` and ``part/age``. Empty if no part tells.
        """
        found: dict[str, Tensor] = {}
        for name, part in self._parts().items():
            tell = getattr(part, "inspect", None)
            if tell is not None:
                told = tell(x, _under(state, name))
                found |= {f"{name}/{key}": value for key, value in told.items()}
        main = next((name for name in ("episodic", "working", "spatial") if f"{name}/weights" in found), None)
        return found if main is None else found | {key: found[f"{main}/{key}"] for key in ("weights", "age")}

    def _fuse(
        self, x: Tensor, state: State, run: Callable[[MemoryModule, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        reads: list[Tensor] = []
        new: State = {}
        for name, part in self._parts().items():
            read, inner = run(part, _under(state, name))
            reads.append(read)
            new |= {f"{name}/{key}": value for key, value in inner.items()}
        gates = self.gate(torch.cat([x, *reads], -1)).sigmoid().chunk(len(reads), -1)
        y = self.skip(x)
        for gate, read in zip(gates, reads, strict=True):
            y = y + gate * read
        return y, new

    def _parts(self) -> dict[str, MemoryModule]:
        return dict(self.parts.items())  # type: ignore[arg-type]


def _build(config: HierarchicalConfig) -> dict[str, MemoryModule]:
    shared = {
        "in_dim": config.in_dim,
        "out_dim": config.out_dim,
        "heads": config.heads,
        "key_dim": config.key_dim,
        "value_dim": config.value_dim,
        "residual": False,
    }
    parts: dict[str, MemoryModule] = {}
    if config.working_slots:
        window = {"slots": config.working_slots, "top_k": config.working_slots, "levels": 1}
        parts["working"] = Episodic(from_dict(EpisodicConfig, {**shared, **window}))
    if config.episodic_slots:
        bank = {"slots": config.episodic_slots, "top_k": config.top_k}
        parts["episodic"] = Episodic(from_dict(EpisodicConfig, {**shared, **bank}))
    spatial = _spatial(config)
    if spatial is not None:
        parts["spatial"] = spatial[0](spatial[1])
    return parts


def _spatial(config: HierarchicalConfig) -> tuple[type[MemoryModule], MemoryConfig] | None:
    if config.spatial is None:
        return None
    cls: type[MemoryModule] = registry.get("memory", config.spatial)
    sizes = {"in_dim": config.in_dim, "out_dim": config.out_dim}
    return cls, from_dict(cls.Config, {**config.spatial_config, **sizes})


def _under(state: Mapping[str, Tensor], name: str) -> State:
    """Return the state of one part, without its prefix."""
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}/")}
