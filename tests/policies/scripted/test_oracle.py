import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.envs import ENVIRONMENTS
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.oracle import oracle
from embodied_mem.policies.scripted.probes import RepeatOracle, TMazeOracle


@pytest.mark.parametrize("form", ["TMaze-v0", "embodied_mem/TMaze-v0", "embodied_mem.envs:embodied_mem/TMaze-v0"])
def test_any_form_of_the_id_finds_the_oracle(form):
    assert isinstance(oracle(form), TMazeOracle)


def test_two_games_share_one_oracle():
    assert isinstance(oracle("RepeatFirst-v0"), RepeatOracle) and isinstance(oracle("RepeatPrevious-v0"), RepeatOracle)


def test_an_env_without_oracle_is_named_with_those_that_have_one():
    with pytest.raises(UsageError, match="CartPole-v1.*TMaze-v0"):
        oracle("CartPole-v1")


def test_oracles_serve_known_ids_and_say_that_they_look():
    known = {item.id for item in ENVIRONMENTS}
    for name in registry.names("agent"):
        served = registry.meta("agent", name).get("oracle_for", ())
        assert set(served) <= known
    with pytest.raises(UsageError, match="privileged"):
        TMazeOracle().act({}, {}, np.zeros(1, bool))
