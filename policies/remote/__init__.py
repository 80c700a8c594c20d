"""Agents whose policy is not one of ours, or not here.

- `agent`    a policy served by ``embodied-mem serve`` (``remote:ws://...``).
- `openpi`   a policy server that speaks openpi's WebSocket messages (``openpi:ws://...``).
- `lerobot`  a LeRobot policy in a folder (``lerobot:DIR``).
- `chunks`   playing chunks of actions row by row, which the latter two share.
"""
