"""embodied_mem: embodied agents that must remember.

One memory contract, three jobs: train a memory agent with RL, evaluate any agent with memory controls, and ask
questions of a stream. The calls below are resolved at first use, so importing the package costs little more than torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from embodied_mem._version import __version__

_CALLS = {
    "make_memory": "embodied_mem.memory.contract:make_memory",
    "load_agent": "embodied_mem.agent:load_agent",
    "train": "embodied_mem.experiments.training:train",
    "evaluate": "embodied_mem.evaluation:evaluate",
    "ask": "embodied_mem.stream.asking:ask",
    "make_vec": "embodied_mem.envs.make:make_vec",
    "record": "embodied_mem.experiments.recording:record_demonstrations",
}

__all__ = ["__version__", *_CALLS]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'embodied_mem' has no attribute {name!r}")
    module, _, attribute = _CALLS[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_CALLS])
