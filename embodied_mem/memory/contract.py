"""The memory contract: what every memory offers, and what it may rely on.

    y, state = memory.step(x, state, reset)             x (n, in_dim),    reset (n,) bool
    y, state = memory.sequence(x, state, resets)        x (n, T, in_dim), resets (n, T) bool

Both forms give the same numbers. ``reset[b]`` True means ``x[b]`` opens an episode: the row's state is replaced by the
initial state before ``x`` is read, and no gate of that step is applied to it.

A memory is one file: a frozen config and a class with `state_spec`, `forward_step`, `forward_sequence` and
`macs_per_token`. The base class checks what enters, casts it, zeroes padding, quarantines non-finite tokens, and fills
in an absent state, so these hooks see clean input, outside autocast (a memory computes and keeps its state in float32):

* ``inputs.x`` in the memory's float type, 0 where padded, finite in `forward_sequence` (unless "stateless");
* ``reset`` / ``resets`` bool or None for "no reset"; never True where padded;
* ``valid`` None unless something is padded: padding is on the right, must change no state; its output is discarded.

Properties say what cannot apply, so that the acceptance suite leaves out that check and no other:

* ``stateless``: the output depends on the present input only;
* ``hard_write``: what is written or read is chosen by a discrete decision, so gradients are those of the choice made;
* ``segment_window``: the window moves by segments, so a cut is allowed only between segments;
* ``compilable``: `step` compiles without a graph break;
* ``soft_reset``: `step` and `sequence` take ``soft_reset`` / ``soft_resets``, clearing part of the state.

``@register("memory", name, family=..., source=..., variants=({"layers": 2},))``: the suite also runs on each variant.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory import door
from embodied_mem.memory.quarantine import quarantine, release
from embodied_mem.memory.state import (
    State,
    StateSpec,
    detach,
    from_numpy,
    merge,
    pack,
    reset_where,
    select,
    to_numpy,
    unpack,
)

__all__ = [
    "MemoryConfig",
    "MemoryInput",
    "MemoryModule",
    "State",
    "StateSpec",
    "detach",
    "from_numpy",
    "make_memory",
    "merge",
    "pack",
    "reset_where",
    "select",
    "to_numpy",
    "unpack",
]

EXTRAS = ("tokens", "depth", "pose", "intrinsics")
PROPERTIES = frozenset({"stateless", "hard_write", "segment_window", "compilable", "soft_reset"})

M = TypeVar("M", bound="MemoryModule")


class MemoryInput(NamedTuple):
    """What a memory may read at a step (n, ...) or over a sequence (n, T, ...); None where it is not needed."""

    x: Tensor
    """(n, in_dim) or (n, T, in_dim) float features."""
    tokens: Tensor | None = None
    """(n, ..., P, d) float patch tokens of the frame."""
    depth: Tensor | None = None
    """(n, ..., H, W) float32 metres."""
    pose: Tensor | None = None
    """(n, ..., 5) float32 camera x, y, z metres, yaw, pitch radians, relative to the episode start."""
    intrinsics: Tensor | None = None
    """(n, ..., 4) float32 fx, fy, cx, cy in pixels."""


@dataclass(frozen=True)
class MemoryConfig:
    """What every memory is built with."""

    in_dim: int = 128
    """Width of the input features."""
    out_dim: int = 128
    """Width of the output."""

    def __post_init__(self) -> None:
        for name in ("in_dim", "out_dim"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")


class MemoryModule(nn.Module, ABC):
    """Base of every memory; see the module docstring for what a subclass writes."""

    Config: ClassVar[type[MemoryConfig]] = MemoryConfig
    needs: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()
    parallel: Literal["scan", "chunk", "attend", "loop"] = "loop"

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        self.in_dim, self.out_dim = config.in_dim, config.out_dim
        self._dtype: torch.dtype | None = None
        self._door: door.Door | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not (dataclasses.is_dataclass(cls.Config) and issubclass(cls.Config, MemoryConfig)):
            raise TypeError(f"{cls.__name__}.Config must be a frozen dataclass derived from MemoryConfig")
        unknown = (cls.needs - set(EXTRAS)) | (cls.properties - PROPERTIES)
        if unknown:
            raise TypeError(f"{cls.__name__} declares unknown needs or properties: {sorted(unknown)}")

    @abstractmethod
    def state_spec(self) -> dict[str, StateSpec]:
        """Return shape (without rows), dtype and role of every tensor of the state."""

    @abstractmethod
    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Read one token per row; see `step` and the module docstring for what is guaranteed."""

    @abstractmethod
    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Read T tokens per row; see `sequence` and the module docstring for what is guaranteed."""

    @abstractmethod
    def macs_per_token(self, t: int | None = None) -> int:
        """Return multiply-accumulates of one step, at the t-th step of an episode where the cost grows (None: full)."""

    def initial_state(
        self, n: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state of ``n`` rows that have read nothing.

        Args:
            n: rows, >= 1.
            device: where; None for the device of the parameters.
            dtype: type of the "carry" tensors; None for float32, or float64 in a float64 memory.
        """
        if n < 1:
            raise UsageError(f"expected n >= 1 rows, got {n}")
        device = self._device() if device is None else device
        dtype = dtype or self.float_dtype
        return {
            key: self.fresh(key, spec, n, torch.device(device), spec.dtype_under(dtype))
            for key, spec in self.state_spec().items()
        }

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the initial value (n, *spec.shape) of one tensor; zeros unless a memory learns or sets it."""
        return torch.zeros((n, *spec.shape), device=device, dtype=dtype)

    def step(
        self,
        x: Tensor | MemoryInput,
        state: State,
        reset: Tensor | None = None,
        *,
        donate: bool = False,
        soft_reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Read one token per row.

        Args:
            x: (n, in_dim) float, or a `MemoryInput` where the memory needs more.
            state: from `initial_state` or an earlier call; not changed unless ``donate``.
            reset: (n,) bool, True where ``x`` opens an episode; None for no reset.
            donate: allow the buffers of ``state`` to be reused for the new state (rollouts: the old one is dead).
            soft_reset: (n,) bool, for memories with the property "soft_reset".

        Returns:
            y (n, out_dim) in the dtype of ``x``, and the new state.

        Raises:
            UsageError: rank, width, dtype, rows or state keys are wrong.
        """
        inputs = self._enter(x, 2)
        features = inputs.x
        rows = features.shape[0]
        door.check_state(state, rows, self._door or self._open_door())
        if reset is not None:
            door.check_reset(reset, rows)
        dtype = features.dtype
        if dtype is not self.float_dtype:
            inputs = inputs._replace(x=features.to(self.float_dtype))
        extra = {}
        if soft_reset is not None:
            self._allow_soft()
            door.check_reset(soft_reset, rows)
            extra = {"soft_reset": soft_reset}
        hook: Callable[..., tuple[Tensor, State]] = self.forward_step
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                y, state = hook(inputs, state, reset, donate=donate, **extra)
        else:
            y, state = hook(inputs, state, reset, donate=donate, **extra)
        return (y if y.dtype is dtype else y.to(dtype)), state

    def sequence(
        self,
        x: Tensor | MemoryInput,
        state: State | None = None,
        resets: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        chunk: int | None = None,
        soft_resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Read T tokens per row, with episode ends anywhere inside.

        Args:
            x: (n, T, in_dim) float, or a `MemoryInput` where the memory needs more; T >= 1.
            state: the carried state, None for `initial_state`; not changed.
            resets: (n, T) bool, True where a token opens an episode; None for no reset.
            valid: (n, T) bool, False where a token is right padding: it changes nothing and its output is 0.
            chunk: tokens per chunk in chunked forms, None for the memory's own choice; never changes the result.
            soft_resets: (n, T) bool, for memories with the property "soft_reset".

        Returns:
            y (n, T, out_dim) in the dtype of ``x``, and the state after the last valid token. From a non-finite token
            to the end of its episode y is NaN, unless the memory is "stateless".

        Raises:
            UsageError: rank, width, dtype, rows, T or state keys are wrong, or ``valid`` is not right padding.
        """
        inputs = self._enter(x, 3)
        rows, steps = inputs.x.shape[:2]
        if state is None:
            state = self.initial_state(rows, inputs.x.device)
        door.check_state(state, rows, self._door or self._open_door())
        if chunk is not None and chunk < 1:
            raise UsageError(f"expected chunk >= 1, got {chunk}")
        if resets is not None:
            door.check_resets(resets, rows, steps)
        dtype = inputs.x.dtype
        inputs = inputs._replace(x=inputs.x.to(self.float_dtype))
        valid = self._padding(valid, rows, steps)
        if valid is not None:
            inputs = inputs._replace(x=torch.where(valid.unsqueeze(-1), inputs.x, 0))
            resets = None if resets is None else resets & valid
        extra = {}
        if soft_resets is not None:
            self._allow_soft()
            door.check_resets(soft_resets, rows, steps, "soft_resets")
            extra = {"soft_resets": soft_resets if valid is None else soft_resets & valid}
        poisoned = None
        if "stateless" not in self.properties:
            features, state, poisoned = quarantine(inputs.x, resets, state)
            inputs = inputs._replace(x=features)
        hook: Callable[..., tuple[Tensor, State]] = self.forward_sequence
        with torch.autocast(inputs.x.device.type, enabled=False):
            y, state = hook(inputs, state, resets, valid=valid, chunk=chunk, **extra)
        y, state = release(y, state, poisoned)
        if valid is not None:
            y = torch.where(valid.unsqueeze(-1), y, 0)
        return y.to(dtype), state

    def forward(
        self, x: Tensor | MemoryInput, state: State | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Same as `sequence`."""
        return self.sequence(x, state, resets)

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random input (n, T, ...) of the kind the memory reads; memories with ``needs`` override it."""
        return MemoryInput(torch.randn(n, T, config.in_dim, generator=generator))

    def detach(self, state: State) -> State:
        """Return the same values without their gradient history."""
        return detach(state)

    def pack(self, state: State) -> State:
        """Return the state at half the bytes (float16), for training batches that store many of them."""
        return pack(state)

    def unpack(self, state: State) -> State:
        """Undo `pack`, up to float16 rounding."""
        return unpack(state, self.state_spec())

    def bytes_per_env(self) -> int:
        """Return the bytes of one row of the state."""
        return sum(spec.nbytes for spec in self.state_spec().values())

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return how long ago what is held was written, by key of ``state``; nothing by default.

        Returns:
            (n, S) int64 steps for every key that holds S items with a time of writing: 0 for the latest step read, -1
            where nothing is held.
        """
        return {}

    def aux_losses(self) -> dict[str, Tensor]:
        """Return extra losses of the last `sequence` call in training mode; none by default."""
        return {}

    @property
    def float_dtype(self) -> torch.dtype:
        """float64 in a memory cast with ``.double()``, else float32: the type it computes and keeps its state in.

        Raises:
            UsageError: the parameters were cast to a half type.
        """
        if self._dtype is None:
            parameter = next((p for p in self.parameters() if p.is_floating_point()), None)
            found = torch.float32 if parameter is None else parameter.dtype
            if found not in (torch.float32, torch.float64):
                raise UsageError(
                    f"expected float32 or float64 parameters in a memory, got {found}; "
                    "pass bfloat16 inputs, or use torch.autocast around the model, instead of casting the memory"
                )
            self._dtype = found
        return self._dtype

    def _apply(self: M, fn: Callable[..., Any], recurse: bool = True) -> M:
        self._dtype = None
        return super()._apply(fn, recurse)

    def _device(self) -> torch.device:
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def _open_door(self) -> door.Door:
        self._door = tuple((key, spec.shape, spec.dtype) for key, spec in self.state_spec().items())
        return self._door

    def _enter(self, x: Tensor | MemoryInput, rank: int) -> MemoryInput:
        if isinstance(x, Tensor):
            if self.needs:
                raise self._needs_more(sorted(self.needs))
            inputs = MemoryInput(x)
        else:
            inputs = x
            missing = sorted(name for name in self.needs if getattr(inputs, name) is None)
            if missing:
                raise self._needs_more(missing)
        door.check_input(inputs.x, rank, self.in_dim)
        return inputs

    def _needs_more(self, missing: list[str]) -> UsageError:
        return UsageError(
            f"{type(self).__name__} needs {', '.join(missing)} besides x; "
            f"pass MemoryInput(x=..., {', '.join(name + '=...' for name in missing)})"
        )

    def _padding(self, valid: Tensor | None, rows: int, steps: int) -> Tensor | None:
        if valid is None:
            return None
        door.check_valid(valid, rows, steps)
        # looked up on the CPU only: on a GPU it would be a synchronisation
        return None if valid.device.type == "cpu" and bool(valid.all()) else valid

    def _allow_soft(self) -> None:
        if "soft_reset" not in self.properties:
            raise UsageError(f"{type(self).__name__} has no levels to soft-reset; pass reset / resets instead")


def make_memory(name: str, **config: Any) -> MemoryModule:
    """Build the registered memory ``name`` from config values.

    Raises:
        UsageError: the name, a key or a value is wrong; the message names the nearest valid one.

    >>> memory = make_memory("gru", in_dim=8, out_dim=16)
    >>> y, state = memory.sequence(torch.zeros(2, 5, 8))
    >>> tuple(y.shape)
    (2, 5, 16)
    """
    cls: type[MemoryModule] = registry.get("memory", name)
    return cls(from_dict(cls.Config, config))
