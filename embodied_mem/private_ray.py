"""A private Ray on this machine, safe to start from several processes at once."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError

ATTEMPTS = 3
TOO_SLOW = "timed out during startup"
"""What Ray's error says when its first process is late."""


def start_private_ray(**options: Any) -> None:
    """``ray.init`` of a new local cluster without dashboard or driver log.

    Args:
        **options: passed on to ``ray.init`` (``num_cpus``, ``logging_level``, ...).

    Raises:
        RuntimeError: Ray is already initialised in this process.
        UsageError: Ray did not come up in `ATTEMPTS` times 30 seconds, its own limit, because the machine is too busy.
    """
    import ray

    share_token()
    defaults: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    for _ in range(ATTEMPTS):
        try:
            ray.init(address="local", **(defaults | options))
            return
        except Exception as error:
            if TOO_SLOW not in str(error):
                raise
            ray.shutdown()
    raise UsageError(
        f"expected Ray to start within 30 seconds, {ATTEMPTS} attempts timed out: the machine is too busy; "
        "stop other jobs and try again"
    )


def share_token() -> None:
    """Make Ray's default token (``~/.ray/auth_token``) if there is none, once for all processes of the user.

    Ray writes it without a lock: two first starts at the same time overwrite each other's, and one fails with
    ``InvalidAuthToken``. A hard link appears whole or not at all, and the first one wins.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    path = Path.home() / ".ray" / "auth_token"
    # A home that cannot be written, or has no links, is left to Ray, whose message names the remedy.
    with contextlib.suppress(OSError):
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="auth_token.") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)
