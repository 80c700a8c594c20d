"""Messages over WebSocket between agents and environments in different processes (extra ``serve``).

- `codec`     msgpack with numpy arrays; refuses whatever else arrives.
- `messages`  version, error codes and the shape of a message.
- `server`    accepts connections within limits; the policy and environment servers stand on it.
- `client`    one connection, blocking.
- `schema`    checks observations and actions that come from outside.
- `host`      serves environments from a Python that cannot hold the rest of this package.

Only numpy, msgpack and websockets are imported here, the latter two inside functions: `host` needs no more.
"""
