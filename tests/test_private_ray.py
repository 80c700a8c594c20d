"""Ray's token is made once, whoever starts first; several first starts at a time all work."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embodied_mem.private_ray import share_token


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_token_is_made_once_and_kept(home):
    token = home / ".ray" / "auth_token"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: share_token(), range(32)))
    first = token.read_text()
    assert len(first) >= 32 and token.stat().st_mode & 0o077 == 0
    share_token()
    assert token.read_text() == first and list(token.parent.iterdir()) == [token]


def test_a_token_of_the_user_is_left_alone(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    share_token()
    assert not (home / ".ray").exists()


def test_a_home_that_cannot_hold_it_is_left_to_ray(home):
    (home / ".ray").write_text("a file where a folder should be")
    share_token()
    assert (home / ".ray").is_file()


@pytest.mark.full
def test_two_first_starts_at_the_same_time_both_work(home):
    code = "from embodied_mem.private_ray import start_private_ray as s; import ray; s(num_cpus=1); ray.shutdown()"
    root = Path(__file__).resolve().parents[1]
    started = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ), cwd=root) for _ in range(3)]
    assert [process.wait(240) for process in started] == [0, 0, 0]
