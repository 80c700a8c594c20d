"""Ray's token is made once, whoever starts first; several first starts at a time all work."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.private_ray import ATTEMPTS, share_token, start_private_ray


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


@pytest.mark.parametrize("late", [1, ATTEMPTS])
def test_a_late_start_is_tried_again_and_then_said(home, monkeypatch, late):
    import ray

    calls = []

    def init(**options):
        calls.append(options)
        if len(calls) <= late:
            raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", init)
    if late < ATTEMPTS:
        start_private_ray(num_cpus=1)
    else:
        with pytest.raises(UsageError, match="the machine is too busy"):
            start_private_ray(num_cpus=1)
    assert len(calls) == min(late + 1, ATTEMPTS) and calls[0]["num_cpus"] == 1


def test_other_errors_of_rays_start_are_passed_on(home, monkeypatch):
    import ray

    def init(**options):
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match="no room"):
        start_private_ray()
