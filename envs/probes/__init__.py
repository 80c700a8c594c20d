"""Probes: small batched environments in which memory, and little else, decides the return."""
