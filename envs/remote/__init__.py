"""Environments of another process, another Python or another machine, over WebSocket (extra ``serve``).

- `server`  hosts any environment that `make_vec` makes: ``embodied-mem serve-env ID``.
- `client`  the vector environment ``remote:ws://...`` that talks to it, or to `embodied_mem.wire.host`.
"""
