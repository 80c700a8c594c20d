"""Players for the tests: a home folder of their own, small pictures, and a check that no process is left behind."""

import os
import signal
from pathlib import Path

import pytest

from embodied_mem.envs.thor.player import Player, PlayerConfig

# Set EMBODIED_MEM_THOR_PLAYER=unity to play the tests of scenes and tasks on a downloaded build.
PLAYER = os.environ.get("EMBODIED_MEM_THOR_PLAYER", "standin")
# Waiting is generous, since machines may be busy; nothing passes because time ran out, except where that is the test.
PATIENT = {"start_timeout": 280.0, "step_timeout": 200.0}
SMALL = {"player": PLAYER, "width": 32, "height": 24, **PATIENT}


def standins(parent=None):
    """Return the process ids of living stand-ins, of one parent or of anyone."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"thor.standin" not in (folder / "cmdline").read_bytes():
                continue
            state, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z" and (parent is None or int(owner) == parent):
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """The client writes logs and locks into the home folder; a downloaded build lies in the real one."""
    before = os.environ.get("HOME")
    if PLAYER == "standin":
        os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is not None:
        os.environ["HOME"] = before


@pytest.fixture(scope="module", autouse=True)
def nothing_left():
    """Every module ends without players; stragglers are ended, and the module fails."""
    yield
    left = standins(os.getpid())
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"players were left behind: {left}"


@pytest.fixture
def make_player():
    """Make players that are ended with the test."""
    made = []

    def make(player="standin", **options):
        made.append(Player(PlayerConfig(**{**SMALL, "player": player, **options})))
        return made[-1]

    yield make
    for player in made:
        player.close()


@pytest.fixture(scope="module")
def player():
    """One player with depth and instance pictures, shared by a module."""
    made = Player(
        PlayerConfig(**{**SMALL, "turn": 90.0, "visibility": 1.5}),
        renderDepthImage=True,
        renderInstanceSegmentation=True,
    )
    yield made
    pid = made.pid
    made.close()
    made.close()
    assert not made.running and not Path(f"/proc/{pid}").exists(), "a closed player is gone and reaped"
