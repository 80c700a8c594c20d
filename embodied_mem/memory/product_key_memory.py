"""Product-key memory: a large learned table of which every input reads a few rows. Parameters, not an episode's memory.

    q = LN(W x) per head, in halves;   the best k of n sub-keys per half;   of the k^2 sums the best k
    y = skip(x) + W sum_i softmax(score)_i V[i],   V has n^2 rows;  with ``gate``:  W (sum * silu(W x))

The k best of k^2 sums are the k best of all n^2 keys: a key among them has both halves among the best k. The values
want a learning rate of their own (about ten times, without weight decay): they are the parameter ``values``.

Limits: it holds nothing of the episode (the state is a step counter), so alone it cannot remember: it adds capacity
beside a memory. Bytes are those of the parameters, 4 n^2 value_dim per table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.kernels import Lookup, pkm_lookup
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["ProductKeyMemory", "ProductKeyMemoryConfig"]


@dataclass(frozen=True)
class ProductKeyMemoryConfig(MemoryConfig):
    """Table and look-up. Published scale: 512 to 1024 sub-keys, 4 heads, 32 rows, keys of 256 to 512."""

    sub_keys: int = 32
    """Sub-keys n per half; the table has n^2 rows."""
    heads: int = 4
    """Look-ups per input, into one table."""
    top_k: int = 8
    """Rows k that a head reads."""
    key_dim: int = 32
    """Width of a query; half of it meets each set of sub-keys."""
    value_dim: int = 32
    """Width of a row."""
    gate: bool = False
    """Gate what was read by the input (SwiLU)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "sub_keys", "heads", "top_k", "key_dim", "value_dim")
        if self.key_dim % 2:
            raise UsageError(f"expected an even key_dim, which is split in halves, got {self.key_dim}")
        if self.top_k > self.sub_keys:
            raise UsageError(f"expected top_k <= sub_keys = {self.sub_keys}, got {self.top_k}")


@register(
    "memory",
    "product_key_memory",
    family="parametric",
    source="Lample et al. 2019, arXiv 1907.05242",
    variants=({"sub_keys": 5, "heads": 2, "top_k": 3, "key_dim": 6, "value_dim": 4, "gate": True},),
)
class ProductKeyMemory(MemoryModule):
    """Learned table under the memory contract."""

    Config = ProductKeyMemoryConfig
    properties = frozenset({"stateless", "hard_write", "compilable"})
    parallel = "scan"

    def __init__(self, config: ProductKeyMemoryConfig) -> None:
        super().__init__(config)
        self.config: ProductKeyMemoryConfig = config
        H, K, V, n = config.heads, config.key_dim, config.value_dim, config.sub_keys
        self.query = nn.Linear(config.in_dim, H * K)
        self.norm = nn.LayerNorm(K)
        self.keys = nn.Parameter(torch.randn(H, 2, n, K // 2) * (K // 2) ** -0.5)
        self.values = nn.Parameter(torch.randn(n * n, V) * V**-0.5)
        self.gate = nn.Linear(config.in_dim, V) if config.gate else None
        self.out = nn.Linear(V, config.out_dim)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the counter ``t``: steps of the episode read so far."""
        return {"t": StateSpec((), torch.int32, "counter")}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, scores of both sets of sub-keys, and the rows read."""
        c = self.config
        maps = sum(linear_macs(part) for part in (self.query, self.out, self.skip))
        maps += 0 if self.gate is None else linear_macs(self.gate)
        return maps + c.heads * (c.sub_keys * c.key_dim + c.top_k * c.value_dim)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Look up one input."""
        t = state["t"] if reset is None else state["t"].masked_fill(reset, 0)
        return self._look_up(inputs.x), {"t": t + 1}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Look up all inputs at once."""
        steps = inputs.x.shape[1]
        real = torch.full_like(state["t"], steps) if valid is None else valid.sum(1, dtype=torch.int32)
        t = state["t"] + real
        if resets is not None:
            since = reset_distance(resets)[:, -1] + 1 - (steps - real)
            t = torch.where(segment_ids(resets)[:, -1] > 0, since.to(torch.int32), t)
        return self._look_up(inputs.x), {"t": t}

    def select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best rows and their scores: x (..., in_dim) -> rows (..., H, k) int64, scores (..., H, k)."""
        found = self._find(x)
        return found.rows.unflatten(0, x.shape[:-1]), found.score.unflatten(0, x.shape[:-1])

    def _find(self, x: Tensor) -> Lookup:
        c = self.config
        q = self.norm(self.query(x).unflatten(-1, (c.heads, c.key_dim))).unflatten(-1, (2, -1))
        return pkm_lookup(q.flatten(0, -4), self.keys, self.values, c.top_k)

    def _look_up(self, x: Tensor) -> Tensor:
        read = self._find(x).out.unflatten(0, x.shape[:-1])
        if self.gate is not None:
            read = read * F.silu(self.gate(x))
        return self.out(read) + self.skip(x)
