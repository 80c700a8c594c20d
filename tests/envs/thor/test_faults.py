"""What the transport survives: players that never come, die, hang, or talk nonsense."""

import time

import pytest

from embodied_mem.envs.thor.player import PlayerFailure

pytest.importorskip("ai2thor")
# The first action of every dialogue with a small picture: before any scene, so that the process is young.
EARLY = "ChangeResolution"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("exit@start", "exit status 3"),
        (f"exit@{EARLY}", "exit status 3"),
        (f"kill@{EARLY}", "exit status -9"),
        (f"segfault@{EARLY}", "exit status -11"),
        (f"truncated@{EARLY}", "closed its pipe|exit status 0"),
        (f"sequence@{EARLY}", "Sequence id mismatch"),
        (f"nometadata@{EARLY}", "no metadata"),
        (f"garbage@{EARLY}", "player failed"),
    ],
)
def test_a_player_that_dies_or_talks_nonsense_is_noticed_at_once(make_player, fault, says):
    player = make_player(f"standin --fault {fault}")
    with pytest.raises(PlayerFailure, match=says):
        player.reset("FloorPlan1")
    assert not player.running and player.starts == 1


@pytest.mark.parametrize("fault", ["hang@start", f"hang@{EARLY}"])
def test_a_player_that_hangs_is_given_up_in_time(make_player, fault):
    player = make_player(f"standin --fault {fault}", start_timeout=2.0)
    began = time.monotonic()
    with pytest.raises(PlayerFailure, match="TimeoutError"):
        player.reset("FloorPlan1")
    assert time.monotonic() - began >= 2.0 and not player.running


def test_a_command_that_is_no_player_is_noticed(make_player):
    with pytest.raises(PlayerFailure, match="exit status"):
        make_player("false").reset("FloorPlan1")
    with pytest.raises(PlayerFailure, match="No such file"):
        make_player("/no/such/player").reset("FloorPlan1")
