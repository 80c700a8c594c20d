"""A folder as training and evaluation leave it, small, with a house map and recorded reads."""

import json

import numpy as np
import pytest

from embodied_mem.evaluation import evaluate
from embodied_mem.files import append_jsonl, atomic_write_json
from embodied_mem.results import make_result, metric

HOUSE = {
    "kind": "house",
    "name": "two rooms <b>",
    "height": 2.7,
    "bounds": [0.0, 0.0, 6.0, 4.0],
    "rooms": [
        {"type": "Kitchen", "polygon": [[0, 0], [0, 4], [3, 4], [3, 0]], "floor_rgb": [120, 110, 100]},
        {"type": "Bedroom", "polygon": [[3, 0], [3, 4], [6, 4], [6, 0]], "floor_rgb": [150, 150, 160]},
    ],
    "walls": [[[0, 0], [0, 4]], [[0, 4], [6, 4]], [[6, 4], [6, 0]], [[6, 0], [0, 0]]],
    "doors": [{"ends": [[3, 1], [3, 2]], "openness": 1.0}],
    "windows": [{"ends": [[0, 1], [0, 2]]}],
    "boxes": [
        {
            "class": "LaundryHamper",
            "position": [1.0, 0.0, 1.0],
            "yaw": 30.0,
            "size": [0.6, 0.7, 0.4],
            "rgb": [200, 80, 90],
        },
        {"class": "Safe", "position": [5.0, 0.0, 3.0], "yaw": 0.0, "size": [0.6, 0.7, 0.6], "rgb": [90, 90, 190]},
    ],
    "containers": [0, 1],
    "answer": 1,
}


def write_training(folder, memory, seeds=(0, 1, 2), rows=20):
    for seed in seeds:
        place = folder / f"seed{seed}"
        for index in range(1, rows + 1):
            row = {"iteration": index, "env_steps": index * 1000, "return_mean": index / rows, "success_mean": None}
            append_jsonl(place / "metrics.jsonl", {**row, "entropy": 1.0 / index})
        train = {"env": "embodied_mem/TMaze-v0", "agent": {"memory": memory}}
        atomic_write_json(place / "config.json", {"name": "maze", "seed": seed, "config": {"train": train}})
    result = make_result("train", "maze", {}, {"return": metric(1.0)}, seeds=seeds, env_steps=rows * 1000)
    atomic_write_json(folder / "result.json", result)


def write_house_trace(folder, condition, reads=True, frames=True):
    total, slots = 14, 8
    rng = np.random.default_rng(3)
    way = [[0.5 + 0.25 * step, 2.0] for step in range(10)] + [[4.0, 3.0 - 0.25 * step] for step in range(5)]
    phases = ["watch"] * 5 + ["wait"] * 4 + ["choose"] * 6
    steps = [
        {"xz": xz, "yaw": 90.0, "distance": float(index), "phase": phase}
        for index, (xz, phase) in enumerate(zip(way, phases))
    ]
    record = {"task": "embodied_mem/House-X-v0", "condition": condition, "checkpoint": 0, "seed": 0, "episode": 0}
    record |= {"length": total, "return": 0.9, "terminated": True, "truncated": False, "metrics": {"success": 1.0}}
    facts = {"record": record, "env": record["task"], "action_names": ["MoveAhead", "Turn"], "sensors": ["scan"]}
    facts |= {"instruction": "find the <key>", "map": HOUSE, "map_end": HOUSE, "steps": steps}
    arrays = {
        "action": rng.integers(0, 2, total),
        "reward": np.linspace(-0.1, 1.0, total),
        "frame_steps": np.arange(total),
    }
    arrays["scan"] = rng.random((total, 16, 3)).astype(np.float32) * 5
    if frames:
        arrays["rgb"] = rng.integers(0, 255, (total, 24, 32, 3)).astype(np.uint8)
    if reads:
        age = np.arange(total)[:, None] - np.arange(slots)[None]
        arrays["read_age"] = np.where(age >= 0, age, -1).astype(float)
        arrays["read_weights"] = np.where(age >= 0, rng.random((total, slots)), 0.0)
    atomic_write_json(folder / "traces" / f"house-{condition}.json", facts)
    with open(folder / "traces" / f"house-{condition}.npz", "wb") as stream:
        np.savez_compressed(stream, **arrays)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "maze & co"
    write_training(folder / "train" / "memory", "gru")
    write_training(folder / "train" / "none", "none")
    evaluate("oracle", "probes", tasks=["passive-50"], episodes=8, controls=True, out=folder / "eval", traces=1)
    for condition in ("agent", "oracle"):
        write_house_trace(folder / "eval", condition, reads=condition == "agent")
    return folder


def page_of(path):
    return path.read_text(encoding="utf-8")


def read_json(path):
    return json.loads(path.read_text())
