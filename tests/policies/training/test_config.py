import pytest

from embodied_mem.config import to_dict
from embodied_mem.errors import UsageError
from embodied_mem.experiments.presets_loader import list_presets, load_preset
from embodied_mem.policies.training.config import RunConfig, apply_overrides, run_config

BASE = {
    "env": "RepeatPrevious-v0",
    "env_config": {"difficulty": "easy"},
    "agent": {"memory": "gated_delta", "memory_config": {"out_dim": 32, "heads": 2}},
    "stop": {"env_steps": 10},
}


def test_flat_keys_reach_their_group():
    config = run_config({**BASE, "lr": 0.5, "stop.seconds": 3, "checkpoint": {"keep": 4}})
    assert (config.train.lr, config.stop.seconds, config.stop.env_steps, config.checkpoint.keep) == (0.5, 3.0, 10, 4)


def test_another_environment_drops_the_options_of_the_old_one():
    config = run_config({**BASE, "agent.encoder.options": {"vector": {"hidden": [4]}}})
    other = apply_overrides(config, {"env": "CartPole-v1"})
    assert other.train.env_config == {} and other.train.agent.encoder.options == {}
    again = apply_overrides(config, {"env": "TMaze-v0", "env_config.length": 7})
    assert again.train.env_config == {"length": 7}
    same = apply_overrides(config, {"lr": 0.1})
    assert same.train.env_config == {"difficulty": "easy"}


def test_another_memory_keeps_the_options_it_has():
    other = apply_overrides(run_config(BASE), {"agent.memory": "none"})
    assert other.train.agent.memory_config == {"out_dim": 32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lrr": 1}, "unknown key 'lrr' .did you mean 'lr'"),
        ({"agent.memry": "gru"}, "did you mean 'memory'"),
        ({"agent.memory": "gruu"}, "unknown memory 'gruu' .did you mean 'gru'"),
        ({"stop.env_step": 5}, "did you mean 'env_steps'"),
        ({"stop.env_steps": -5}, "positive stop limits"),
        ({"stop.env_steps": None}, "nothing ends this run"),
        ({"lr": "fast"}, "expected float for 'train.lr'"),
        ({"checkpoint.keep": 0}, "keep >= 1"),
        ({"seed": 7}, "--seeds 0,1,2"),
        ({"train.seed": 7}, "--seeds 0,1,2"),
        ({"agent.encoder.out_dim": 0}, "encoder.out_dim >= 1"),
    ],
)
def test_wrong_keys_and_values_are_explained(change, message):
    with pytest.raises(UsageError, match=message):
        apply_overrides(run_config(BASE), change)


def test_config_round_trips_through_json():
    from embodied_mem.config import from_dict

    config = run_config(BASE)
    assert from_dict(RunConfig, to_dict(config)) == config


def test_every_preset_loads_and_says_what_it_is():
    presets = list_presets()
    assert {"repeat-previous"} <= {item["name"] for item in presets}
    for item in presets:
        assert len(item["description"]) > 20, item["name"]
        assert item["cpu_seconds"] and item["cpu_seconds"] > 0, item["name"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: x\nlrr: 1\nstop: {iterations: 1}", "did you mean 'lr'"),
        ("lr: 1", "'description'"),
        ("description: x\ncpu_seconds: soon", "'cpu_seconds'"),
        ("- 1", "expected a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_wrong_preset_files_are_explained(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_preset(str(path))


def test_preset_files_read_short_exponents(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("description: x\nlr: 3e-4\nstop: {env_steps: 100}")
    assert load_preset(str(path)).config.train.lr == 3e-4


def test_unknown_presets_name_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'repeat-previous'"):
        load_preset("repeat-previus")
    with pytest.raises(UsageError, match="cannot read the preset"):
        load_preset(str(tmp_path / "absent.yaml"))
