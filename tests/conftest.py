"""What holds for every test.

One Ray token for the whole run: a process keeps the first it reads, while some tests move the home folder. Long forms
get more time than the 300 s of the others.
"""

import os
import secrets

import pytest

os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

LONG_FORM_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long forms `LONG_FORM_SECONDS`, unless they name a limit of their own."""
    for item in items:
        if item.get_closest_marker("full") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_FORM_SECONDS))
