"""Base of memories whose state is a small regressor that learns during the episode (test-time regression).

    q, k, v = split(conv(W x)),   descent = - theta_t dloss(M(k_t), v_t),   o_t = M_t(q_t),   y = skip(x) + W read(o_t)

A memory says what becomes of a projected token (`token`) and what its loss is (`gradient`); the arithmetic of the
weights is `inner_loop`. Gradients are taken at the weights of the last chunk boundary, and chunks of ``chunk`` tokens
count from the start of the episode, so a reset is a fresh start at any step (`episode_chunks`). The gradient at the
weights just before each token, the online form of the papers, is ``chunk=1``.

The state holds the weights of the last boundary and the outer products taken in since: fewer bytes than a third copy of
the weights, and a step reads weights without writing them. They are formed at a boundary, once per chunk and row.

Limits: what is written reaches every later read at once, but the gradients of later tokens at the next boundary only.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory import inner_loop
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.episode_chunks import EpisodeChunks, find_chunks, from_chunks, to_chunks
from embodied_mem.memory.fast_weights import FastWeights, FastWeightsConfig, Token
from embodied_mem.memory.rows import opened_rows

__all__ = ["InnerLearner", "InnerLearnerConfig"]

KINDS = ("matrix", "mlp")


@dataclass(frozen=True)
class InnerLearnerConfig(FastWeightsConfig):
    """Shape of the regressor."""

    memory: str = "matrix"
    """matrix: one matrix per head; mlp: two, with ``activation`` between, which start from learned weights."""
    expansion: int = 4
    """Hidden units of an mlp memory, in multiples of key_dim."""
    activation: str = "gelu"
    """Activation of an mlp memory: gelu or silu."""
    clip: float = 4.0
    """Length at which the gradient at the output of a head saturates softly; inf for none."""
    chunk: int = 16
    """Tokens between two boundaries; part of the mechanism, not only of the parallel form."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, found, known in (
            ("memory", self.memory, KINDS),
            ("activation", self.activation, inner_loop.ACTIVATIONS),
        ):
            if found not in known:
                raise UsageError(f"expected {name} to be one of {', '.join(known)}, got {found!r}")
        if self.expansion < 1:
            raise UsageError(f"expected expansion >= 1, got {self.expansion}")
        if not self.clip > 0:
            raise UsageError(f"expected clip > 0, got {self.clip}")


class InnerLearner(FastWeights):
    """Base of the family. `token` returns theta as ``beta`` and, with momentum, log eta as ``extra[..., 0]``."""

    Config = InnerLearnerConfig
    momentum = False
    """Whether the descent carries momentum."""
    bias_rows = 0
    """1 where every layer has a bias, its last row; then `token` appends to q and k the ones that meet it."""
    boundary = "WZ"
    """First letters of what the state holds from the last boundary: weights W, momenta Z."""
    random_start = False
    """Whether a matrix memory too starts from random, learned weights."""

    def __init__(self, config: InnerLearnerConfig, heads_width: int, gate_width: int, bias: Tensor) -> None:
        super().__init__(config, heads_width, gate_width, bias)
        self.config: InnerLearnerConfig = config
        H, K, V = config.heads, config.key_dim, config.value_dim
        widths = [K, V] if config.memory == "matrix" else [K, config.expansion * K, V]
        self.shapes = [(H, a + self.bias_rows, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.S_init = None
        random = config.memory == "mlp" or self.random_start
        starts = self.draw_starts() if random else [torch.zeros(shape) for shape in self.shapes]
        self.starts = nn.ParameterList(map(nn.Parameter, starts) if random or config.learned_init else [])

    def draw_starts(self) -> list[Tensor]:
        """Draw the weights an episode starts from, per layer: variance 1 / inputs, biases 0."""
        starts = [torch.randn(shape) * (shape[1] - self.bias_rows) ** -0.5 for shape in self.shapes]
        for start in starts:
            start[:, start.shape[1] - self.bias_rows :] = 0
        return starts

    @abstractmethod
    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Return the gradient of the loss at the output of the regressor.

        Args:
            prediction, v: (n, H, Q, V). k: (n, H, Q, K). extra: (n, H, Q, X), what `token` returned.
        """

    def fast_spec(self) -> dict[str, StateSpec]:
        """Weights W and momenta Z of the last boundary, the outer products since, their coefficients, their count."""
        c = self.config
        spec: dict[str, StateSpec] = {}
        for layer, shape in enumerate(self.shapes):
            spec[f"W{layer}"] = StateSpec(shape, role="param_like")
            if self.momentum:
                spec[f"Z{layer}"] = StateSpec(shape, role="param_like")
            spec[f"left{layer}"] = StateSpec((c.heads, c.chunk, shape[1]), role="ring")
            spec[f"right{layer}"] = StateSpec((c.heads, c.chunk, shape[2]), role="ring")
        return {**spec, **self.coef_spec(), "phase": StateSpec((), torch.int64, "counter")}

    def coef_spec(self) -> dict[str, StateSpec]:
        """Return the spec of the coefficients."""
        c = self.config
        if not self.momentum:
            return {"kappa": StateSpec((c.heads, 1 + c.chunk))}
        return {"kappa": StateSpec((c.heads, 2 + c.chunk)), "mu": StateSpec((c.heads, 1 + c.chunk))}

    def start_of(self, key: str) -> Tensor | None:
        """Learned weights; coefficients that say "as at the boundary"; None where zeros are meant."""
        if key in ("kappa", "mu"):
            spec = self.coef_spec()[key]
            first = torch.zeros(spec.shape, device=self.project.device, dtype=self.project.dtype)
            return torch.cat([first[:, :1] + 1, first[:, 1:]], -1)
        if key[0] == "W" and len(self.starts):
            start: Tensor = self.starts[int(key[1:])]
            return start
        return None

    def fast_macs(self) -> int:
        """Gradient, read through weights and outer products, and the boundary spread over its chunk."""
        c, copies = self.config, 2 if self.momentum else 1
        total = sum((1 + 2 * copies) * a * b + c.chunk * (a + b) for _, a, b in self.shapes)
        return c.heads * (total + sum(a * b for _, a, b in self.shapes[1:]))

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Take in one token, read, and form the weights in the rows that reach a boundary."""
        C, phase = self.config.chunk, state["phase"]
        q, k, v = (value.unsqueeze(2) for value in token[:3])
        theta, extra = _gates(token)
        lefts, rights = self._outer(k, v, theta.unsqueeze(2), extra.unsqueeze(2), state)
        # a copy, unless given away: else a later step that may write into its state would reach this one
        alias = donate or torch.is_grad_enabled()
        new = {key: state[key] if alias else state[key].clone() for key in state if key[0] in self.boundary}
        for name, items in (("left", lefts), ("right", rights)):
            for layer, item in enumerate(items):
                held, at = state[f"{name}{layer}"], phase.view(-1, 1, 1, 1).expand_as(item)
                new[f"{name}{layer}"] = held.scatter_(2, at, item) if donate else held.scatter(2, at, item)
        coefs = self.advance_coefs(token, state)
        lefts, rights = _layers(new, "left"), _layers(new, "right")
        o = self._read(q, coefs["kappa"].unsqueeze(2), state, lefts, rights).squeeze(2)
        new = {**new, **{key: coefs[key] for key in self.coef_spec()}, "phase": (phase + 1) % C}
        ends = opened_rows(phase + 1 == C)
        if ends is None:
            return o, new
        some = {key: _take(x, ends) for key, x in {**new, **coefs}.items()}
        formed = self._form(some, some, _layers(some, "left"), _layers(some, "right"))
        for key, x in new.items():
            if key != "phase":
                new[key] = _put(x, ends, formed[key] if key in formed else self.start_of(key), donate)
        return o, new

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Take in T tokens, chunk j of all episodes at once; the chunks are the config's, whatever is asked."""
        chunks = find_chunks(resets, state["phase"], self.config.chunk, valid)
        if not chunks.sizes:
            return torch.zeros_like(token.v), state
        theta, extra = _gates(token)
        log_keep = token.log_decay.masked_fill(resets.unsqueeze(-1), 0).unsqueeze(-1)
        gates = torch.cat([theta, log_keep, extra], -1)
        packed = [to_chunks(x, chunks).transpose(1, 2) for x in (*token[:3], gates)]
        coefs = self.chunk_coefs(packed[3][..., 1], packed[3][..., 2:], state, chunks)
        names, sizes = list(coefs), chunks.sizes
        parts = zip(*(part.split(sizes) for part in (*packed, *coefs.values())), strict=True)
        now = {key: self._begin(key, state, chunks) for key in state if key[0] in self.boundary}
        outputs: list[Tensor] = []
        ends: list[State] = []
        for j, (q, k, v, gate, *rest) in enumerate(parts):
            coef = dict(zip(names, rest, strict=True))
            lefts, rights = self._outer(k, v, gate[..., :1], gate[..., 2:], now)
            if j == 0:
                lefts, rights = self._join("left", lefts, state, chunks), self._join("right", rights, state, chunks)
            outputs.append(self._read(q, coef["kappa"], now, lefts, rights))
            on = sizes[j + 1] if j + 1 < len(sizes) else 0
            stop = on + chunks.last_sizes[j]
            if not stop:
                continue
            now, coef = _first(now, stop), _first(coef, stop)
            lefts, rights = [x[:stop] for x in lefts], [x[:stop] for x in rights]
            formed = self._form({key: x[:, :, -1] for key, x in coef.items()}, now, lefts, rights)
            if stop > on:
                slots = {f"left{i}": x for i, x in enumerate(lefts)} | {f"right{i}": x for i, x in enumerate(rights)}
                held = {key: coef[key] for key in self.coef_spec()}
                ends.append(self._end({**now, **slots, **held}, formed, chunks.filled[:stop], on))
            now = _first(formed, on)
        return from_chunks(torch.cat(outputs).transpose(1, 2), chunks), self._collect(ends, state, chunks)

    def chunk_coefs(self, log_keep: Tensor, extra: Tensor, state: State, chunks: EpisodeChunks) -> State:
        """Return the coefficients at every slot, ``kappa`` (M, H, C, P + C) and perhaps ``mu`` (M, H, C, 1 + C).

        Args:
            log_keep: (M, H, C). extra: (M, H, C, X).
        """
        E, C = len(chunks.row), chunks.chunk
        log_momentum = extra[..., 0] if self.momentum else None
        held = torch.zeros_like(chunks.real)
        held[:E] = torch.arange(C, device=held.device) < chunks.held.unsqueeze(1)
        kappa, mu = inner_loop.chunk_coefs(log_keep, log_momentum, held.unsqueeze(1))
        begun = {key: self._begin(key, state, chunks) for key in self.coef_spec()}
        begun = {key: inner_loop.held_coefs(x, chunks.held, C) for key, x in begun.items()}
        first = inner_loop.carried_coefs(kappa[:E], None if mu is None else mu[:E], begun["kappa"], begun.get("mu"))
        coefs = {"kappa": torch.cat([first[0], kappa[E:]])}
        if mu is not None and first[1] is not None:
            coefs["mu"] = torch.cat([first[1], mu[E:]])
        return coefs

    def advance_coefs(self, token: Token, state: State) -> State:
        """Return the coefficients after one more token, ``kappa`` (n, H, P + C) and perhaps ``mu`` (n, H, 1 + C)."""
        log_momentum = _gates(token)[1][..., 0] if self.momentum else None
        kappa, mu = inner_loop.advance_coefs(
            state["kappa"], state.get("mu"), token.log_decay, log_momentum, state["phase"]
        )
        return {"kappa": kappa} if mu is None else {"kappa": kappa, "mu": mu}

    def effective(self, weights: list[Tensor], rights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the regressor runs with, given the accumulated weights of the boundary and the writes since."""
        return weights, rights

    def _outer(
        self, k: Tensor, v: Tensor, theta: Tensor, extra: Tensor, now: State
    ) -> tuple[list[Tensor], list[Tensor]]:
        """k (n, H, Q, K), v (n, H, Q, V), theta (n, H, Q, 1) -> both factors of the outer products, per layer."""
        weights, _ = self.effective(_layers(now, "W"), [])
        prediction, lefts, slope = inner_loop.forward(k, weights, self.config.activation)
        gradient = self.gradient(prediction, k, v, extra)
        if self.config.clip < math.inf:
            excess = gradient.square().sum(-1, keepdim=True) * self.config.clip**-2
            theta = theta * torch.rsqrt(1 + excess)
        return lefts, inner_loop.writes(-theta * gradient, weights, slope)

    def _read(self, q: Tensor, kappa: Tensor, now: State, lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
        momenta = _layers(now, "Z") or None
        weights, rights = self.effective(_layers(now, "W"), rights)
        return inner_loop.read(q, kappa, weights, momenta, lefts, rights, self.config.activation)

    def _form(self, coef: State, now: State, lefts: list[Tensor], rights: list[Tensor]) -> State:
        """Coefficients (n, H, *) of the last slot -> the weights and momenta of the boundary."""
        weights, momenta = _layers(now, "W"), _layers(now, "Z") or None
        formed, carried = inner_loop.combine(coef["kappa"], coef.get("mu"), weights, momenta, lefts, rights)
        return {f"W{i}": x for i, x in enumerate(formed)} | {f"Z{i}": x for i, x in enumerate(carried)}

    def _begin(self, key: str, state: State, chunks: EpisodeChunks) -> Tensor:
        """One tensor of the state at the start of every episode, (E, ...)."""
        carried, start = state[key].index_select(0, chunks.row), self.start_of(key)
        return torch.where(_over(chunks.live, carried), carried, 0 if start is None else start.to(carried.dtype))

    def _join(self, name: str, items: list[Tensor], state: State, chunks: EpisodeChunks) -> list[Tensor]:
        """Put what the state holds of the first chunks into its slots."""
        held = torch.arange(chunks.chunk, device=chunks.held.device) < chunks.held.unsqueeze(1)
        held = held.view(len(held), 1, -1, 1)
        old = (state[f"{name}{layer}"].index_select(0, chunks.row) for layer in range(len(items)))
        return [torch.where(held, x, item) for x, item in zip(old, items, strict=True)]

    def _end(self, values: State, formed: State, filled: Tensor, on: int) -> State:
        """The state of the rows whose last chunk this is, those from ``on`` on."""
        filled = filled[on:]
        full = filled == self.config.chunk
        taken = (torch.arange(self.config.chunk, device=filled.device) < filled.unsqueeze(1)) & ~full.unsqueeze(1)
        end: State = {"phase": torch.where(full, 0, filled)}
        for key, x in values.items():
            x = x[on:]
            if key in formed:
                end[key] = torch.where(_over(full, x), formed[key][on:], x)
            elif key in self.coef_spec():
                at = (filled - 1).view(-1, 1, 1, 1).expand(-1, x.shape[1], 1, x.shape[3])
                now, start = x.gather(2, at).squeeze(2), self.start_of(key)
                end[key] = torch.where(_over(full, now), 0 if start is None else start.to(x.dtype), now)
            else:
                end[key] = torch.where(taken.view(len(x), 1, -1, 1), x, 0)
        return end

    def _collect(self, ends: list[State], state: State, chunks: EpisodeChunks) -> State:
        """The states that the rows end with, in the order of the rows."""
        new = {}
        for key, old in state.items():
            if key in ends[0]:
                x = torch.cat([end[key] for end in ends]).index_select(0, chunks.last.clamp(min=0))
                new[key] = x if chunks.valid is None else torch.where(_over(chunks.last >= 0, x), x, old)
        return new


def _gates(token: Token) -> tuple[Tensor, Tensor]:
    """Return theta (..., H, 1) and what else is per head (..., H, X), X perhaps 0."""
    assert token.beta is not None
    theta = token.beta.unsqueeze(-1)
    return theta, theta[..., :0] if token.extra is None else token.extra


def _layers(state: State, name: str) -> list[Tensor]:
    return [state[key] for key in sorted(state) if key[:-1] == name]


def _first(values: State, count: int) -> State:
    return {key: x if len(x) == count else x[:count] for key, x in values.items()}


def _over(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.dim() - 1))


def _take(x: Tensor, rows: Tensor) -> Tensor:
    return x if rows.dtype is torch.bool else x.index_select(0, rows)


def _put(x: Tensor, rows: Tensor, value: Tensor | None, donate: bool) -> Tensor:
    """Replace ``rows`` of x by ``value``, one per row taken or one for all; None for zeros."""
    value = torch.zeros((), dtype=x.dtype, device=x.device) if value is None else value.to(x.dtype)
    if rows.dtype is torch.bool:
        return torch.where(_over(rows, x), value, x)
    return (x if donate else x.clone()).index_copy_(0, rows, value.expand(len(rows), *x.shape[1:]))
