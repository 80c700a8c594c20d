"""Where torch computes, by name."""

from __future__ import annotations

from embodied_mem.errors import UsageError


def resolve_device(device: str) -> str:
    """Return a torch device name for ``auto | cpu | cuda | cuda:i``.

    Raises:
        UsageError: the name is none of these, or there is no such GPU.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not index.isdecimal()) or (kind == "cpu" and colon):
        raise UsageError(f"expected device auto, cpu, cuda or cuda:i, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r} is not there: torch sees {torch.cuda.device_count()} GPUs; use cpu")
    return device
