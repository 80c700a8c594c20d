"""The client that the docs show in plain Python speaks the protocol."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from .conftest import episodes, play, serving

PAGE = Path(__file__).resolve().parents[3] / "docs" / "serving" / "plain_client.py"


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("plain_client", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_plays_what_our_client_plays(plain):
    observations = episodes(3, 2)
    with serving(rows=2, token="open-sesame") as server:
        policy = plain.Policy(server.address, token="open-sesame")
        assert policy.hello["rows"] == 2
        got = [
            [policy.act({"vector": vector}, first=step == 0) for step, vector in enumerate(episode)]
            for episode in observations
        ]
        with pytest.raises(RuntimeError, match="schema: vector: expected float32"):
            policy.act({"vector": np.zeros(3)})
        policy.socket.close()
    with serving(rows=2) as server:
        assert np.array_equal(np.array(got), play(server.address, observations))


def test_it_imports_nothing_of_this_package():
    assert "import embodied_mem" not in PAGE.read_text() and "from embodied_mem" not in PAGE.read_text()
