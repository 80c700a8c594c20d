"""Memory in parts: the recent window, a bank of what mattered, and a slot for a spatial memory, fused by gates.

    r_p = read of part p,   g_p = sigmoid(W_p [x, r_1, .., r_P] + b_p),   y = skip(x) + sum_p g_p * r_p

Working memory is a ring of the last steps, all of them read; the episodic bank keeps by preference and reads the best
(`episodic`); the spatial slot takes any registered memory by name. Each part is left out by its config, which is how an
ablation is run. The state of part p lies under ``p/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import Composed, Part, Plan, plan, skip_connection, under
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State
from embodied_mem.memory.episodic import Episodic, EpisodicConfig
from embodied_mem.memory.slot_loop import linear_macs
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
    family="composition",
    source="working window + episodic bank + spatial slot, gated fusion",
    variants=(
        {"episodic_slots": 0, "working_slots": 8},
        {"working_slots": 2, "episodic_slots": 5, "top_k": 2, "spatial": "gated_delta"},
    ),
)
class HierarchicalMemory(Composed):
    """Working, episodic and spatial memory under one contract."""

    Config = HierarchicalConfig

    def __init__(self, config: HierarchicalConfig) -> None:
        super().__init__(config)
        self.config: HierarchicalConfig = config
        width = len(self.parts) * config.out_dim
        self.gate = nn.Linear(config.in_dim + width, width)
        nn.init.constant_(self.gate.bias, _GATE_BIAS)
        self.skip = skip_connection(config.in_dim, config.out_dim)

    @classmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return the parts that the config does not leave out."""
        assert isinstance(config, HierarchicalConfig)
        shared = {
            "in_dim": config.in_dim,
            "out_dim": config.out_dim,
            "heads": config.heads,
            "key_dim": config.key_dim,
            "value_dim": config.value_dim,
            "residual": False,
        }
        plans: dict[str, Plan] = {}
        if config.working_slots:
            window = {"slots": config.working_slots, "top_k": config.working_slots, "levels": 1}
            plans["working"] = Episodic, from_dict(EpisodicConfig, {**shared, **window})
        if config.episodic_slots:
            bank = {"slots": config.episodic_slots, "top_k": config.top_k}
            plans["episodic"] = Episodic, from_dict(EpisodicConfig, {**shared, **bank})
        if config.spatial is not None:
            part = Part(config.spatial, config.spatial_config)
            plans["spatial"] = plan(part, "spatial", config.in_dim, config.out_dim)
        return plans

    def own_macs(self) -> int:
        """Gates and skip."""
        return linear_macs(self.gate) + linear_macs(self.skip)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool, **soft: Any
    ) -> tuple[Tensor, State]:
        """Read and write every part; see `MemoryModule.step`."""
        return self._fuse(
            inputs.x, [self.step_part(name, inputs, state, reset, donate=donate, **soft) for name in self.parts]
        )

    def forward_sequence(
        self,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        **soft: Any,
    ) -> tuple[Tensor, State]:
        """Read and write every part in its parallel form; see `MemoryModule.sequence`."""
        return self._fuse(
            inputs.x,
            [self.run_part(name, inputs, state, resets, valid=valid, chunk=chunk, **soft) for name in self.parts],
        )

    def inspect(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Return what reads at ``x`` (n, in_dim) attend to.

        Returns:
            ``weights`` and ``age`` (n, S) of the episodic bank, or of working memory where there is no bank; those of
            every part that tells, under ``part/weights`` and ``part/age``. Empty if no part tells.
        """
        found: dict[str, Tensor] = {}
        for name, part in self.inner().items():
            tell = getattr(part, "inspect", None)
            if tell is not None:
                told = tell(x, under(state, name))
                found |= {f"{name}/{key}": value for key, value in told.items()}
        main = next((name for name in ("episodic", "working", "spatial") if f"{name}/weights" in found), None)
        return found if main is None else found | {key: found[f"{main}/{key}"] for key in ("weights", "age")}

    def _fuse(self, x: Tensor, done: list[tuple[Tensor, State]]) -> tuple[Tensor, State]:
        """Join reads (..., out_dim) and new states of all parts."""
        reads = [read for read, _ in done]
        gates = self.gate(torch.cat([x, *reads], -1)).sigmoid().chunk(len(reads), -1)
        y = self.skip(x)
        for gate, read in zip(gates, reads, strict=True):
            y = y + gate * read
        return y, {key: value for _, new in done for key, value in new.items()}
