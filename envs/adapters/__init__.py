"""Environments of other packages with the contract of ours; each needs its package and says how to install it."""
