"""The acceptance suite runs over the registry by itself: every memory, and every variant it names at registration.

@register("memory", "gru", ..., variants=({"layers": 2},))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from embodied_mem import registry
from embodied_mem.memory.contract import MemoryInput, MemoryModule, State, make_memory

IN, OUT = 6, 8


@dataclass(frozen=True)
class Case:
    """One memory under test."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0, **config: Any) -> MemoryModule:
        torch.manual_seed(seed)
        memory = make_memory(self.name, **{"in_dim": IN, "out_dim": OUT, **self.config, **config})
        with torch.no_grad():
            for parameter in memory.parameters():
                # zero-initialised starts and biases would hide a path
                parameter.add_(0.1 * torch.randn_like(parameter))
        return memory.to(dtype)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.config.items())])


def all_cases() -> list[Case]:
    cases = []
    for name in registry.names("memory"):
        cases.append(Case(name))
        cases += [Case(name, dict(variant)) for variant in registry.meta("memory", name).get("variants", ())]
    return cases


@pytest.fixture(params=all_cases(), ids=str)
def case(request) -> Case:
    return request.param


@pytest.fixture(params=[pytest.param(c, marks=[pytest.mark.full] if c.config else []) for c in all_cases()], ids=str)
def compiled_case(request) -> Case:
    """As ``case``, with variants in the long form only: compiling takes seconds each."""
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave two of three combinations of a check's own parameters to the long form, where there are several.

    That holds for variants of a memory, and for A7, which has 27. Which third stays rotates from case to case, so every
    combination still runs on many of them.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        case = call.params.get("case") if call else None
        if not isinstance(case, Case):
            continue
        own = {name: index for name, index in call.indices.items() if name != "case"}
        if own and (case.config or len(own) > 2) and sum(call.indices.values()) % 3:
            item.add_marker(pytest.mark.full)


@pytest.fixture
def cases() -> type[Case]:
    return Case


class Tools:
    """What the checks of the suite share."""

    warmed: ClassVar[dict[Any, State]] = {}

    @staticmethod
    def inputs(memory: MemoryModule, n: int, T: int, seed: int = 1) -> MemoryInput:
        drawn = memory.sample_input(memory.config, n, T, torch.Generator().manual_seed(seed))
        kind = memory.float_dtype
        return MemoryInput(*(v.to(kind) if v is not None and v.is_floating_point() else v for v in drawn))

    @staticmethod
    def resets(n: int, T: int, rate: float, seed: int = 2) -> Tensor:
        return torch.rand(n, T, generator=torch.Generator().manual_seed(seed)) < rate

    @classmethod
    def warm(cls, memory: MemoryModule, n: int, seed: int = 3) -> State:
        """A state that rows have reached after different numbers of steps and resets; a leaf without history.

        Most checks start here with the same memory, so the state is computed once for the same weights.
        """
        weights = tuple(float(p.detach().double().sum()) for p in memory.parameters())
        key = (type(memory), repr(memory.config), memory.float_dtype, memory.training, weights, n, seed)
        if key not in cls.warmed:
            if len(cls.warmed) > 64:
                cls.warmed.clear()
            cls.warmed[key] = cls._warm(memory, n, seed)
        return {name: value.clone() for name, value in cls.warmed[key].items()}

    @classmethod
    def _warm(cls, memory: MemoryModule, n: int, seed: int) -> State:
        state = memory.initial_state(n)
        x, resets = cls.inputs(memory, n, 11, seed), cls.resets(n, 11, 0.1, seed)
        lengths = torch.arange(n) % 4 + 8
        with torch.no_grad():
            for t in range(11):
                _, new = memory.step(cls.at(x, t), state, resets[:, t])
                running = t < lengths
                state = {k: torch.where(cls.over(running, v), v, state[k]) for k, v in new.items()}
        return state

    @staticmethod
    def over(rows: Tensor, value: Tensor) -> Tensor:
        return rows.view(*rows.shape, *[1] * (value.dim() - rows.dim()))

    @staticmethod
    def at(x: MemoryInput, t: int | slice) -> MemoryInput:
        return MemoryInput(*(None if v is None else v[:, t] for v in x))

    @staticmethod
    def rows(x: MemoryInput, index: Any) -> MemoryInput:
        return MemoryInput(*(None if v is None else v[index] for v in x))

    @classmethod
    def loop(
        cls, memory: MemoryModule, x: MemoryInput, state: State, resets: Tensor | None = None, **soft: Tensor
    ) -> tuple[Tensor, State]:
        """The step form over a sequence: what every sequence form must equal."""
        outputs = []
        for t in range(x.x.shape[1]):
            now = {key: value[:, t] for key, value in soft.items()}
            y, state = memory.step(cls.at(x, t), state, None if resets is None else resets[:, t], **now)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    @staticmethod
    def error(found: Tensor, want: Tensor) -> float:
        """||a - b|| / max(||b||, 1e-6), in float64."""
        found, want = found.detach().double(), want.detach().double()
        return float((found - want).norm() / want.norm().clamp(min=1e-6))

    @classmethod
    def close(cls, found: Tensor | State, want: Tensor | State, tolerance: float, what: str = "y") -> None:
        if isinstance(want, dict):
            assert found.keys() == want.keys()
            for key in want:
                cls.close(found[key], want[key], tolerance, f"{what}[{key}]")
            return
        assert found.shape == want.shape, what
        assert found.dtype == want.dtype, what
        if not want.is_floating_point():
            assert torch.equal(found, want), what
            return
        error = cls.error(found, want)
        assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.0e}"

    @staticmethod
    def equal(found: State, want: State) -> bool:
        return found.keys() == want.keys() and all(
            found[k].dtype == want[k].dtype and torch.equal(found[k], want[k]) for k in want
        )

    @staticmethod
    def leaf(state: State) -> State:
        """The same state with gradients asked for on every float tensor."""
        return {key: value.detach().clone().requires_grad_(value.is_floating_point()) for key, value in state.items()}

    @staticmethod
    def trained(memory: MemoryModule) -> dict[str, Tensor]:
        """The parameters that a training run changes, by name."""
        return {name: parameter for name, parameter in memory.named_parameters() if parameter.requires_grad}

    @staticmethod
    def floats(state: State, memory: MemoryModule | None = None, roles: tuple[str, ...] | None = None) -> list[Tensor]:
        spec = memory.state_spec() if memory is not None else {}
        return [
            value
            for key, value in state.items()
            if value.is_floating_point() and (roles is None or spec[key].role in roles)
        ]


@pytest.fixture
def tools() -> type[Tools]:
    return Tools


class SegmentReference:
    """Segment memories recomputed from nothing: no cache, all tokens of a segment in one pass under a full mask."""

    @staticmethod
    def frame(front: int, length: int, end: int) -> tuple[Tensor, Tensor]:
        """Who sees whom in [front | segment | end], (Q, Q) bool, and the ages: (Q, Q) int64, 0 among the front.

        The front sees itself, the segment the front and its past, the end everything.
        """
        Q = front + length + end
        place = torch.arange(Q) - front
        sees = place.unsqueeze(1) >= place
        sees[:front, :front] = True
        sees[front + length :] = True
        age = (place.unsqueeze(1) - place).abs()
        age[front:, :front] = (place[front:] + 1).unsqueeze(1)
        age[:front] = 0
        return sees, age

    @staticmethod
    def layers(
        memory: Any, h: Tensor, place: Tensor, sees: Tensor, age: Tensor, before: Any = None, mixed: Any = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs of every layer for tokens h (Q, D) at positions (Q,)."""
        D, H = memory.config.width, memory.config.heads
        d = D // H
        turn = torch.polar(
            torch.ones(len(place), d // 2, dtype=torch.float64),
            place.double().unsqueeze(1) * memory.rates.double(),
        )
        inputs, outputs = [], []
        for n, block in enumerate(memory.blocks):
            h = h if before is None else before(n, h)
            inputs.append(h)
            q, k, v = block.qkv(block.norm_attention(h)).split(D, 1)
            heads = []
            for i in range(H):
                part = slice(i * d, (i + 1) * d)
                turned = [torch.complex(*vec[:, part].split(d // 2, 1)) * turn for vec in (q, k)]
                logits = (turned[0] @ turned[1].conj().T).real / d**0.5 - block.recency[i] * age
                heads.append(logits.masked_fill(~sees, -torch.inf).softmax(1) @ v[:, part])
            local = block.out(torch.cat(heads, 1))
            h = h + local if mixed is None else mixed(n, h, local)
            h = h + block.mlp(block.norm_mlp(h))
            outputs.append(h)
        return inputs, outputs

    @staticmethod
    def run(memory: Any, x: Tensor, resets: Tensor, start: Any, look: Any) -> tuple[Tensor, Any]:
        """Outputs (T, out_dim) of one row x (T, in_dim), and what is held at the end.

        ``start()`` is what an episode begins with; ``look(held, segment (L, D))`` returns the last output and what
        would be held if the segment ended here.
        """
        held, segment, outputs = start(), [], []
        for t, token in enumerate(x):
            if resets[t]:
                held, segment = start(), []
            segment.append(memory.embed(token))
            h, new = look(held, torch.stack(segment))
            outputs.append(memory.readout(memory.norm(h)))
            if len(segment) == memory.config.segment:
                held, segment = new, []
        return torch.stack(outputs), held

    @staticmethod
    def check(memory: Any, start: Any, look: Any, T: int = 23, cut: tuple[int, ...] = (3, 17)) -> tuple[Any, State]:
        """Compare outputs with `run` and return what is held by both."""
        x = torch.randn(T, memory.in_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        resets = torch.zeros(T, dtype=torch.bool)
        resets[list(cut)] = True
        with torch.no_grad():
            y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
            want, held = SegmentReference.run(memory, x, resets, start, look)
        assert torch.allclose(y[0], want, atol=1e-10)
        return held, state


@pytest.fixture
def by_hand() -> type[SegmentReference]:
    return SegmentReference
