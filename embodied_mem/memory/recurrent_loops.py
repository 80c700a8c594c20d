"""The LSTM and GRU recurrences over stairs (`repack`), with their gradients written out.

Autograd through cells pays, at every step, a product for the weight gradients and a node per operation. Here a step
backwards is one product with U^T and a few elementwise operations in place: all factors that do not depend on the
incoming gradient are computed for all tokens at once before the loop, and all weight gradients by one product after it.

Step p works on the first ``sizes[p]`` episodes; an episode's gradient enters the loop at its last token, which is where
the slices grow when they are walked backwards. So one buffer of E rows, seeded with the gradients of the final
states, carries each of dh and dc.

Limits: first derivatives only (a second one raises).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["gru_loop", "lstm_loop"]


def lstm_loop(gates: Tensor, h0: Tensor, c0: Tensor, U: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``i, f, g, o = gates + U h'``, ``c = sig(f) c' + sig(i) tanh(g)``, ``h = sig(o) tanh(c)`` over stairs.

    Args:
        gates: (N, 4 D) input projections with all biases, in torch's order i, f, g, o.
        h0, c0: (E, D) state each episode starts from.
        U: (4 D, D) recurrent weights.
        sizes: running episodes at every position, as `Episodes.sizes`.

    Returns:
        h (N, D), and h and c (E, D) at the end of every episode.
    """
    return _LSTMLoop.apply(gates, h0, c0, U, sizes)


def gru_loop(gates: Tensor, h0: Tensor, U: Tensor, bias: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Run ``r, z = sig(gates + u)``, ``n = tanh(gates_n + r u_n)``, ``h = (1 - z) n + z h'`` with ``u = U h' + bias``.

    Args:
        gates: (N, 3 D) input projections with input bias, in torch's order r, z, n.
        h0: (E, D) state each episode starts from.
        U: (3 D, D) recurrent weights. bias: (3 D,).
        sizes: running episodes at every position, as `Episodes.sizes`.

    Returns:
        h (N, D), and h (E, D) at the end of every episode.
    """
    return _GRULoop.apply(gates, h0, U, bias, sizes)


def _stacked(start: Tensor, tokens: int) -> Tensor:
    """Buffer (E + N, D) whose first E rows hold ``start``."""
    buffer = start.new_empty(len(start) + tokens, start.shape[1])
    buffer[: len(start)] = start
    return buffer


def _before(buffer: Tensor, sizes: list[int]) -> Tensor:
    """(E + N, D) start and token values -> (N, D) value before every token of the stairs."""
    E, N = sizes[0], sum(sizes)
    if sizes[-1] == E:
        return buffer[:N]
    back = torch.tensor([E, *sizes[:-1]], device=buffer.device).repeat_interleave(
        torch.tensor(sizes, device=buffer.device)
    )
    return buffer.index_select(0, torch.arange(E, E + N, device=buffer.device) - back)


def _at_end(tokens: Tensor, sizes: list[int]) -> Tensor:
    """(N, D) token values -> (E, D) values at the last token of every episode."""
    ends, offset = [], 0
    for size, following in zip(sizes, [*sizes[1:], 0]):
        ends.append(tokens[offset + following : offset + size])
        offset += size
    return torch.cat(ends[::-1])


class _LSTMLoop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, h0: Tensor, c0: Tensor, U: Tensor, sizes: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        N, D = gates.shape[0], U.shape[1]
        gates = gates.clone()
        hs, cs, squashed = _stacked(h0, N), _stacked(c0, N), gates.new_empty(N, D)
        Ut = U.t().contiguous()
        h, c = hs[: len(h0)], cs[: len(h0)]
        h_out, c_out = hs[len(h0) :].split(sizes), cs[len(h0) :].split(sizes)
        for n, z, h_new, c_new, tanh_c in zip(sizes, gates.split(sizes), h_out, c_out, squashed.split(sizes)):
            if n != len(h):
                h, c = h[:n], c[:n]
            z.addmm_(h, Ut)
            z[:, : 2 * D].sigmoid_()
            i, f, g, o = z.split(D, 1)
            torch.mul(f, c, out=c_new).addcmul_(i, g.tanh_())
            torch.mul(o.sigmoid_(), torch.tanh(c_new, out=tanh_c), out=h_new)
            h, c = h_new, c_new
        ctx.sizes = sizes
        ctx.save_for_backward(gates, hs, cs, squashed, U)
        tokens = hs[len(h0) :]
        return tokens, _at_end(tokens, sizes), _at_end(cs[len(c0) :], sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhs: Tensor, dh_end: Tensor, dc_end: Tensor) -> tuple[Tensor | None, ...]:
        gates, hs, cs, squashed, U = ctx.saved_tensors
        sizes, D = ctx.sizes, U.shape[1]
        factors = _lstm_factors(gates, _before(cs, sizes), squashed)
        # dc gets dh o (1 - tanh(c)^2)
        through_o = gates[:, 3 * D :] * (1 - squashed * squashed)
        dz = torch.empty_like(gates)
        dh, dc = dh_end.clone(), dc_end.clone()
        lists = (dz.unflatten(1, (4, D)), factors.unflatten(1, (4, D)), dz, through_o, gates[:, D : 2 * D], dhs)
        steps = list(zip(sizes, *(x.split(sizes) for x in lists)))
        for n, dz_p, factor, flat, through, f, dh_p in reversed(steps):
            dh_n, dc_n = dh[:n], dc[:n]
            dh_n.add_(dh_p)
            dc_n.addcmul_(dh_n, through)
            torch.mul(factor[:, :3], dc_n.unsqueeze(1), out=dz_p[:, :3])
            torch.mul(factor[:, 3], dh_n, out=dz_p[:, 3])
            torch.mm(flat, U, out=dh_n)
            dc_n.mul_(f)
        return dz, dh, dc, dz.t() @ _before(hs, sizes), None


def _lstm_factors(gates: Tensor, c_before: Tensor, squashed: Tensor) -> Tensor:
    """(N, 4 D) derivative of c by the raw i, f, g and of h by the raw o, for all tokens at once."""
    D = squashed.shape[1]
    i, f, g, o = gates.split(D, 1)
    factors = gates - gates * gates
    factors[:, :D] *= g
    factors[:, D : 2 * D] *= c_before
    factors[:, 2 * D : 3 * D] = i * (1 - g * g)
    factors[:, 3 * D :] *= squashed
    return factors


class _GRULoop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, h0: Tensor, U: Tensor, bias: Tensor, sizes: list[int]
    ) -> tuple[Tensor, Tensor]:
        N, D = gates.shape[0], U.shape[1]
        gates = gates.clone()
        hs, recurrent = _stacked(h0, N), gates.new_empty(N, 3 * D)
        Ut = U.t().contiguous()
        h = hs[: len(h0)]
        for n, z, u, h_new in zip(sizes, gates.split(sizes), recurrent.split(sizes), hs[len(h0) :].split(sizes)):
            if n != len(h):
                h = h[:n]
            torch.addmm(bias, h, Ut, out=u)
            rz, candidate = z[:, : 2 * D], z[:, 2 * D :]
            rz.add_(u[:, : 2 * D]).sigmoid_()
            candidate.addcmul_(rz[:, :D], u[:, 2 * D :]).tanh_()
            h = torch.lerp(candidate, h, rz[:, D:], out=h_new)
        ctx.sizes = sizes
        ctx.save_for_backward(gates, hs, recurrent[:, 2 * D :].contiguous(), U)
        tokens = hs[len(h0) :]
        return tokens, _at_end(tokens, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhs: Tensor, dh_end: Tensor) -> tuple[Tensor | None, ...]:
        gates, hs, u_n, U = ctx.saved_tensors
        sizes, D = ctx.sizes, U.shape[1]
        before = _before(hs, sizes)
        r, z, n = gates.split(D, 1)
        # derivative of h with respect to the raw candidate; to U h' it passes through r
        candidate = (1 - z) * (1 - n * n)
        factors = torch.empty_like(gates)
        factors[:, :D] = candidate * u_n * (r - r * r)
        factors[:, D : 2 * D] = (before - n) * (z - z * z)
        factors[:, 2 * D :] = candidate * r
        du = torch.empty_like(gates)
        total = torch.empty_like(dhs)
        dh = dh_end.clone()
        lists = (du.unflatten(1, (3, D)), factors.unflatten(1, (3, D)), du, total, z, dhs)
        steps = list(zip(sizes, *(x.split(sizes) for x in lists)))
        for count, du_p, factor, flat, total_p, z_p, dh_p in reversed(steps):
            dh_n = dh[:count]
            torch.add(dh_n, dh_p, out=total_p)
            torch.mul(factor, total_p.unsqueeze(1), out=du_p)
            torch.mul(total_p, z_p, out=dh_n).addmm_(flat, U)
        dgates = torch.cat([du[:, : 2 * D], candidate * total], 1)
        return dgates, dh, du.t() @ before, du.sum(0), None
