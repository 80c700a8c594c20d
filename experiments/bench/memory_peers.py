"""What the memory bench compares with: plain torch modules, flash-linear-attention's reference op, titans-pytorch.

Each function returns one call to time, forward and backward over (B, T, D); a peer that is not installed returns None.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Call = Callable[[], object]


def lstm_cell_loop(x: Tensor, resets: Tensor) -> Call:
    """`torch.nn.LSTMCell` step by step, the state replaced by ``where`` at resets."""
    cell = nn.LSTMCell(x.shape[-1], x.shape[-1]).to(x.device)
    zeros = x.new_zeros(len(x), x.shape[-1])

    def run() -> None:
        h = c = zeros
        outputs = []
        for token, reset in zip(x.unbind(1), resets.unsqueeze(-1).unbind(1), strict=True):
            h, c = cell(token, (torch.where(reset, 0.0, h), torch.where(reset, 0.0, c)))
            outputs.append(h)
        torch.stack(outputs, 1).sum().backward()

    return run


def lstm_cut_fused(x: Tensor, resets: Tensor) -> Call:
    """torch's fused LSTM, called once between every two times at which any row resets."""
    fused = nn.LSTM(x.shape[-1], x.shape[-1], batch_first=True).to(x.device)
    zeros = x.new_zeros(1, len(x), x.shape[-1])
    cuts = [0, *(t for t in resets.any(0).nonzero().squeeze(1).tolist() if t), x.shape[1]]

    def run() -> None:
        state = (zeros, zeros)
        outputs = []
        for begin, end in zip(cuts, cuts[1:], strict=False):
            reset = resets[:, begin].view(1, -1, 1)
            state = (torch.where(reset, 0.0, state[0]), torch.where(reset, 0.0, state[1]))
            y, state = fused(x[:, begin:end], state)
            outputs.append(y)
        torch.cat(outputs, 1).sum().backward()

    return run


def fused_gru(x: Tensor) -> Call:
    """torch's fused GRU without resets."""
    fused = nn.GRU(x.shape[-1], x.shape[-1], batch_first=True).to(x.device)
    return lambda: fused(x)[0].sum().backward()


def delta_inputs(x: Tensor, heads: int = 4) -> dict[str, Tensor]:
    """Leaves of the gated delta op at the width of ``x``: q, k, v (B, T, H, D / H), g and beta (B, T, H)."""
    B, T, D = x.shape
    drawn = torch.randn(3, B, T, heads, D // heads, device=x.device)
    g, beta = -0.1 * torch.rand(B, T, heads, device=x.device), torch.rand(B, T, heads, device=x.device)
    leaves = {
        "q": F.normalize(drawn[0], dim=-1),
        "k": F.normalize(drawn[1], dim=-1),
        "v": drawn[2],
        "g": g,
        "beta": beta,
    }
    return {name: value.requires_grad_() for name, value in leaves.items()}


def fla_naive(inputs: dict[str, Tensor], chunk: int | None = None) -> Call | None:
    """flash-linear-attention's naive chunk op of the gated delta rule, at its own chunk size unless given."""
    op = _fla_naive_op()
    if op is None:
        return None
    size = {} if chunk is None else {"chunk_size": chunk}
    return lambda: op(**inputs, **size)[0].sum().backward()


def titans_pytorch(x: Tensor, depth: int, chunk: int, heads: int = 4) -> Call | None:
    """titans-pytorch's memory at the width of ``x``, weights renewed every ``chunk`` tokens; ``depth`` 1 or 2."""
    if importlib.util.find_spec("titans_pytorch") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from titans_pytorch import MemoryMLP, NeuralMemory
    width = x.shape[-1] // heads
    memory = NeuralMemory(
        x.shape[-1],
        dim_head=width,
        heads=heads,
        chunk_size=chunk,
        batch_size=chunk,
        model=MemoryMLP(width, depth, expansion_factor=4.0),
    ).to(x.device)
    return lambda: memory(x)[0].sum().backward()


def _fla_naive_op() -> Callable[..., Any] | None:
    """Load the one file that holds it: importing the package itself asks for a GPU driver."""
    spec = importlib.util.find_spec("fla")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "ops" / "gated_delta_rule" / "naive.py"
    loader = importlib.util.spec_from_file_location("_fla_naive", path)
    if not path.is_file() or loader is None or loader.loader is None:
        return None
    module = importlib.util.module_from_spec(loader)
    try:
        loader.loader.exec_module(module)
    except ImportError:
        return None
    return getattr(module, "naive_chunk_gated_delta_rule", None)
