"""A stand-in for the Unity player: speaks AI2-THOR's pipe protocol and serves rooms of the House simulator.

    python -m embodied_mem.envs.thor.standin [--fault KIND@ACTION[:N]] [--rooms N] [--rearrange FILE]

It is there so that the real client, and everything built on it, can be run and tested where Unity is not. It is not
AI2-THOR: rooms are generated, objects are upright boxes, there is no physics beyond walking into things. Scores made on
it are never scores on AI2-THOR.

- `fifo`     messages; `__main__` the dialogue and the fault switches.
- `rooms`    which House plan a scene name stands for.
- `scene`    the state: agent, objects, cameras; `actions` what can be done with it; `metadata` how it is told.
- `raycast`  pictures and sight lines.
"""
