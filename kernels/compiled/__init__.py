"""Compiled loops for the CPU (numba), where a step is many small operations on large weights; imported at first use."""
