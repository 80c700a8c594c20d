"""First-order linear recurrence over time with resets inside the sequence, as the memories call it.

    h_t = a_t * h_{t-1} + b_t,      h_t = b_t where reset_t      (gated_recurrent.md, the flagged operator)

A caller whose episodes start from an initial state adds it to ``b`` at the resets. The work is done by
`embodied_mem.kernels.reset_scan`: a loop over time on the CPU, one launch on a GPU.
"""

from __future__ import annotations

from torch import Tensor

from embodied_mem.kernels import reset_scan

__all__ = ["linear_scan"]


def linear_scan(a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor, *, paired: bool = False) -> Tensor:
    """Run the recurrence of the module docstring.

    Args:
        a, b: (B, T, ...) float. With ``paired`` the last axis is 2: real and imaginary part.
        resets: (B, T) bool, or None for no reset.
        h0: (B, ...) state before token 0.
        paired: whether a, b and h0 hold complex numbers as pairs, which every compiler and exporter can store.

    Returns:
        h (B, T, ...). Nothing crosses a reset: not a NaN, not a gradient.

    Raises:
        ValueError: shapes disagree.
    """
    return reset_scan(a, b, resets, h0, paired=paired)
