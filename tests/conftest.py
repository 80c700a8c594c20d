"""One Ray token for the whole run: a process keeps the first it reads, while some tests move the home folder."""

import os
import secrets

os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
