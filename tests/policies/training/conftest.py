"""A tiny preset that learns nothing in a second, one Ray per module, and the command line in this process."""

import json

import pytest

from embodied_mem.private_ray import start_private_ray

TINY = """
description: a run that ends after a few iterations
env: RepeatPrevious-v0
env_config: {difficulty: easy}
agent: {memory: gru, encoder: {out_dim: 8}, memory_config: {out_dim: 8}}
num_envs: 4
fragment: 16
minibatch: 32
epochs: 1
stop: {iterations: 6}
checkpoint: {iterations: 2}
log: {tensorboard: false}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("presets") / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="module")
def local_ray():
    import ray

    start_private_ray(num_cpus=2)
    yield ray
    ray.shutdown()


@pytest.fixture
def cli(capfd):
    """Run the command line; returns exit code, stdout, stderr."""
    from embodied_mem.cli.app import run

    def call(*words):
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def rows():
    def read(directory):
        return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]

    return read


@pytest.fixture
def without_times():
    def strip(rows):
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]

    return strip
