"""RepeatPrevious Easy by sb3-contrib's RecurrentPPO and by our preset: what each has learned within a CPU budget.

python -m embodied_mem.experiments.recurrent_peer [--seeds 0,1,2] [--cpu-seconds 300] [--work DIR] [--out FILE]

Both train on the same batched environment, one thread, one process group, CPU-seconds counted from the first env step
on; ours ends earlier, where the preset says that the game is learned. Then both play the same 200 episodes per training
seed with their most likely actions. Needs the extra ``peers``. What ``--work`` holds is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "recurrent_peer.json"
PRESET = "repeat-previous"
ENV = "embodied_mem.envs:embodied_mem/RepeatPrevious-v0"
TASK = "RepeatPrevious-v0:easy"
EPISODES = 200
NUM_ENVS = 32
PEER: dict[str, Any] = {"n_steps": 128, "batch_size": 1024, "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.0}
"""As our preset a discount of 0 (every answer is judged at once), 4,096 steps an iteration; its own clip and lambda."""
POLICY = {"lstm_hidden_size": 128, "shared_lstm": True, "enable_critic_lstm": False, "net_arch": []}
"""One LSTM of 128 units for actor and critic, on a tanh layer of 64."""


class PeerAgent:
    """A trained RecurrentPPO as an `Agent`: one-hot cards in, most likely action out."""

    needs_privileged = False

    def __init__(self, model: Any) -> None:
        """Wrap a ``RecurrentPPO`` that was trained on `VectorAdapter`."""
        self.model = model
        self._codes = np.eye(model.observation_space.shape[0], dtype=np.float32)

    def initial_state(self, n: int, seed: int | None = None) -> Any:
        """Return None, for which sb3 makes zeros; play is deterministic."""
        return None

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return actions (B,), the LSTM's next state and an empty dict."""
        action, state = self.model.predict(self._codes[obs], state, episode_start=reset, deterministic=True)
        return action, state, {}


def train_peer(seed: int, cpu_seconds: float) -> tuple[Any, int, float]:
    """Train RecurrentPPO until the iteration in which the budget ends; return it, its env steps and CPU-seconds.

    Raises:
        UsageError: sb3-contrib is not installed.
    """
    try:
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.callbacks import BaseCallback

        from embodied_mem.experiments.sb3_adapter import Features, VectorAdapter
    except ImportError:
        raise UsageError("expected sb3-contrib; install it with: pip install 'embodied_mem[peers]'") from None

    class Budget(BaseCallback):
        """Ends `learn` with the first step that is taken after the budget."""

        def _on_step(self) -> bool:
            return time.process_time() - began < cpu_seconds

    torch.set_num_threads(1)
    options = {"features_extractor_class": Features, **POLICY}
    env = VectorAdapter(ENV, NUM_ENVS)
    model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=options, device="cpu", seed=seed, **PEER)
    began = time.process_time()
    model.learn(10**9, callback=Budget())
    return model, int(model.num_timesteps), time.process_time() - began


def cell(row: str, seed: int, cpu_seconds: float, work: Path) -> dict[str, Any]:
    """Train and play one seed of one row where that is not done; return its record."""
    folder = work / row / f"seed{seed}"
    file = folder / "record.json"
    if file.is_file():
        return read_json(file)
    if folder.exists():
        shutil.rmtree(folder)  # what was stopped starts again: a budget of one process cannot be joined
    if row == "peer":
        model, steps, seconds = train_peer(seed, cpu_seconds)
        agent: Any = PeerAgent(model)
    else:
        limits: dict[str, Any] = {"stop.cpu_seconds": cpu_seconds, "device": "cpu"}
        trained = train(PRESET, seeds=[seed], out=folder / "run", **limits)["metrics"]
        steps, seconds = int(trained["env_steps"]["mean"]), float(trained["cpu_seconds"]["mean"])
        agent = folder / "run"
    played = evaluate(agent, "probes", tasks=[TASK], seeds=[seed], episodes=EPISODES, device="cpu", out=folder / "play")
    lines = (folder / "play" / "episodes.jsonl").read_text().splitlines()
    record = {
        "return": [float(json.loads(line)["return"]) for line in lines],
        "mean": float(played["metrics"]["return"]["mean"]),
        "env_steps": steps,
        "cpu_seconds": round(seconds, 1),
    }
    atomic_write_json(file, record)
    print(row, seed, {**record, "return": record["mean"]}, flush=True)
    return record


def table(records: Mapping[str, Sequence[Mapping[str, Any]]], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result: our preset as the agent, sb3-contrib beside it."""

    def column(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        found = {"return": summarise([[np.array(row["return"])] for row in rows], "mean")}
        for key in ("env_steps", "cpu_seconds"):
            found[key] = summarise([[np.array([float(row[key])])] for row in rows], "mean")
        return found

    ours, peer = column(records["ours"]), column(records["peer"])
    return make_result(
        "experiment",
        "recurrent_peer",
        config,
        {"return": ours["return"], "peer_return": peer["return"]},
        seeds=config["seeds"],
        episodes=EPISODES * sum(len(rows) for rows in records.values()),
        tasks={TASK: {"metrics": ours, "controls": {"sb3_contrib": peer}, "episodes": EPISODES * len(records["ours"])}},
        seconds=sum(float(row["cpu_seconds"]) for rows in records.values() for row in rows),
        notes=["best return 1, best without memory -0.49; seconds are CPU-seconds of training on one thread"],
    )


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cpu-seconds", type=float, default=300.0)
    parser.add_argument("--work", type=Path, default=Path("runs/recurrent-peer"))
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    seeds = [int(word) for word in given.seeds.split(",")]
    records = {row: [cell(row, seed, given.cpu_seconds, given.work) for seed in seeds] for row in ("ours", "peer")}
    command = (
        f"python -m embodied_mem.experiments.recurrent_peer --seeds {given.seeds} --cpu-seconds {given.cpu_seconds:g}"
    )
    config = {
        "preset": PRESET,
        "seeds": seeds,
        "cpu_seconds": given.cpu_seconds,
        "peer": {"num_envs": NUM_ENVS, **PEER, **POLICY},
        "command_line": command,
    }
    atomic_write_json(given.out, table(records, config))


if __name__ == "__main__":
    main()
