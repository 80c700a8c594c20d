"""Triton kernels and their launches; imported by an operation when it first runs one."""
