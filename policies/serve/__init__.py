"""Serving an agent over WebSocket: one row of memory per client, one forward for all that wait.

- `batch`   many clients' rows through one agent, without a network.
- `server`  the same behind `wire.server`.
"""
