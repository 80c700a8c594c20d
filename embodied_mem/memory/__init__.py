"""Memories for embodied agents: one contract (`contract`), its helpers, and one file per memory."""

from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, make_memory
from embodied_mem.memory.report import StateReport, state_report
from embodied_mem.memory.state import State, StateSpec, detach, from_numpy, merge, select, to_numpy

__all__ = [
    "MemoryConfig",
    "MemoryInput",
    "MemoryModule",
    "State",
    "StateReport",
    "StateSpec",
    "detach",
    "from_numpy",
    "make_memory",
    "merge",
    "select",
    "state_report",
    "to_numpy",
]
