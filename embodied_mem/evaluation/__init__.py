"""Evaluation: any agent on a suite, beside memory controls, with intervals and per-episode records."""

from embodied_mem.evaluation.evaluate import evaluate
from embodied_mem.evaluation.suite import Suite, Task, load_suite

__all__ = ["Suite", "Task", "evaluate", "load_suite"]
