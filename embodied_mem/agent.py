"""The perception-memory-action loop: the modules that RLlib trains, run by evaluation, serving and users without Ray.

`Agent` is all that evaluation knows. `MemoryAgent` is encoder, memory and heads as one torch module; `PolicyAgent`
gives it the `Agent` form (numpy in, numpy out). `save_agent` and `load_agent` are its file form, a bundle:
``agent.json`` (configuration, spaces, checksum) and ``weights.safetensors``. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import gymnasium
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from embodied_mem import heads, registry
from embodied_mem._version import __version__
from embodied_mem.config import from_dict, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_dir, atomic_write_bytes, atomic_write_json, read_json
from embodied_mem.heads import ActionHead, HeadConfig
from embodied_mem.memory.contract import MemoryInput, MemoryModule, State, make_memory, reset_where
from embodied_mem.perception.encoder import EncoderConfig, ObservationEncoder
from embodied_mem.perception.text_reader import ReaderConfig, TextReader
from embodied_mem.spaces import as_dict_obs, as_dict_space, space_from_json, space_to_json

T = TypeVar("T")

BUNDLE_FORMAT = 1
# Other kinds of bundles are registered under "bundle"; one without a kind is a `MemoryAgent`.
KIND = "memory_agent"
CONFIG_FILE, WEIGHTS_FILE = "agent.json", "weights.safetensors"
# Where a run folder keeps its bundle, so that a run can be named instead of the bundle.
BUNDLE_PLACES = (".", "agent", "seed0/agent")


@runtime_checkable
class Agent(Protocol):
    """Anything that acts: a trained bundle, a scripted expert, an oracle, a remote policy, a user's function."""

    needs_privileged: bool
    """True: `act` wants the dict of ``env.privileged()``."""

    def initial_state(self, n: int, seed: int | None = None) -> Any:
        """Return the state of ``n`` fresh episodes; ``seed`` restarts the agent's random draws."""

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return actions (B, ...), the next state and an info dict.

        Args:
            obs: what the vector env returned, leading axis B.
            state: from `initial_state` or the last call.
            reset: (B,) bool, True where ``obs`` opens an episode; those rows forget ``state`` first.
            privileged: ``env.privileged()`` where ``needs_privileged``.
        """


class Bundled(Protocol):
    """A module that `save_agent` can write; other kinds than `MemoryAgent` name themselves in ``bundle_kind``."""

    config: Any
    """Frozen dataclass from which the module can be built again."""

    @property
    def observation_space(self) -> gymnasium.Space:
        """Single-env observations."""

    @property
    def action_space(self) -> gymnasium.Space:
        """Single-env actions."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the weights."""


@dataclass(frozen=True)
class AgentConfig:
    """Encoder, memory and heads."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Observation to features."""
    memory: str = "gru"
    """Registered memory (``embodied-mem list memories``)."""
    memory_config: dict[str, Any] = field(default_factory=dict)
    """Options of the memory; ``in_dim`` follows the encoder."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Action and value heads."""
    skip: bool = False
    """Heads read the features beside the memory's output."""
    reader: ReaderConfig | None = None
    """Reads an instruction with what the heads read as query, and joins the answer; the encoder then leaves it out."""


class MemoryAgent(nn.Module):
    """Encoder, memory and heads as one module. Functional in its state: nothing is kept between calls."""

    def __init__(
        self,
        config: AgentConfig,
        encoder: ObservationEncoder,
        memory: MemoryModule,
        head: ActionHead,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        reader: TextReader | None = None,
    ) -> None:
        """Join the parts; `build` makes them from a config."""
        super().__init__()
        self.reader = reader
        self.config = config
        self.encoder = encoder
        self.memory = memory
        self.head = head
        self.observation_space = observation_space
        self.action_space = action_space
        self._needs = tuple(sorted(memory.needs))

    @classmethod
    def build(
        cls, config: AgentConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space
    ) -> MemoryAgent:
        """Build the agent for single-env spaces.

        Raises:
            UsageError: an unknown memory, encoder or option, or a space the parts cannot serve.
        """
        space = as_dict_space(observation_space)
        seen = config.encoder
        if config.reader is not None:
            _check_text(config.reader, space)
            seen = replace(
                seen, ignore=(*(key for key in seen.ignore if key != config.reader.entry), config.reader.entry)
            )
        encoder = ObservationEncoder(seen, space)
        width = config.memory_config.get("in_dim", encoder.out_dim)
        if width != encoder.out_dim:
            raise UsageError(f"expected memory_config.in_dim equal to encoder.out_dim {encoder.out_dim}, got {width}")
        memory = make_memory(config.memory, **{**config.memory_config, "in_dim": encoder.out_dim})
        missing = sorted(key for key in memory.needs if key not in space.spaces)
        if missing:
            known = list(space.spaces)
            raise UsageError(f"memory {config.memory!r} needs the observation entries {missing}, got {known}")
        head_dim = memory.out_dim + (encoder.out_dim if config.skip else 0)
        reader = None if config.reader is None else TextReader(config.reader, head_dim)
        head = ActionHead(head_dim + (0 if reader is None else reader.out_dim), action_space, config.head)
        return cls(config, encoder, memory, head, observation_space, action_space, reader)

    def initial_state(self, n: int, device: torch.device | str | None = None) -> State:
        """Return the memory state of ``n`` fresh episodes, leaves (n, ...), on ``device`` (default: the module's)."""
        return self.memory.initial_state(n, device=self.head.out.weight.device if device is None else device)

    def step(
        self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None = None, donate: bool = False
    ) -> tuple[Tensor, Tensor, State]:
        """Advance every row by one observation.

        Args:
            obs: named tensors (B, ...).
            state: memory state, leaves (B, ...).
            reset: (B,) bool, True where ``obs`` opens an episode; None = nowhere.
            donate: the memory may reuse the buffers of ``state``.

        Returns:
            Distribution inputs (B, A) float32, value (B,) float32, new state.
        """
        x = self.encoder(obs)
        y, state = self.memory.step(self._input(x, obs), state, reset, donate=donate)
        inputs, value = self.head(self._join(y, x, obs))
        return inputs, value, state

    def sequence(
        self, obs: Mapping[str, Tensor], state: State | None, resets: Tensor | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Run whole rows, with episodes beginning inside them where ``resets`` says so.

        Args:
            obs: named tensors (B, T, ...).
            state: memory state before the first step, leaves (B, ...); None = fresh.
            resets: (B, T) bool.
            valid: (B, T) bool, False on right padding.

        Returns:
            Distribution inputs (B, T, A), values (B, T), embeddings (B, T, D), all float32, and the last state.
        """
        x = self.encoder(obs)
        y, state = self.memory.sequence(self._input(x, obs), state, resets, valid=valid)
        embedding = self._join(y, x, obs)
        inputs, value = self.head(embedding)
        return inputs, value, embedding, state

    def follow(self, obs: Mapping[str, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return distribution inputs (B, T, A) and memory outputs (B, T, M) of whole episodes with texts as concepts.

        Args:
            obs: named tensors (B, T, ...), without the text.
            tokens: (B, W) int64, see `street_words.tokenize`.

        Raises:
            UsageError: the agent has no reader.
        """
        if self.reader is None:
            raise UsageError("expected an agent with a reader (agent.reader), got one without")
        x = self.encoder(obs)
        y, _ = self.memory.sequence(self._input(x, obs))
        found = torch.cat([y, x], -1) if self.config.skip else y
        answer = self.reader.attend(found, self.reader.encode(tokens))
        return self.head(torch.cat([found, answer], -1))[0], y

    def inspect(self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None = None) -> dict[str, Tensor]:
        """Return what a read at ``obs`` attends to, from the memory's own ``inspect``; empty where it has none."""
        look = getattr(self.memory, "inspect", None)
        if look is None:
            return {}
        if reset is not None:
            state = reset_where(reset, self.initial_state(len(reset)), state)
        return look(self._input(self.encoder(obs), obs), state)

    def _join(self, y: Tensor, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Return what the heads read: memory output, features where ``skip``, and what the text answers."""
        found = torch.cat([y, x], -1) if self.config.skip else y
        if self.reader is None:
            return found
        return torch.cat([found, self.reader(found, obs[self.reader.config.entry])], -1)

    def _input(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor | MemoryInput:
        return MemoryInput(x, **{key: obs[key] for key in self._needs}) if self._needs else x


def _check_text(config: ReaderConfig, space: gymnasium.spaces.Dict) -> None:
    box = space.spaces.get(config.entry)
    if box is None or box.dtype != np.uint8 or len(box.shape or ()) != 1:
        raise UsageError(f"expected text (L,) uint8 under {config.entry!r} for the reader, got {box} of {list(space)}")


class PolicyAgent:
    """`MemoryAgent` as an `Agent`: numpy observations in, the environment's actions out."""

    needs_privileged = False

    def __init__(self, module: MemoryAgent, *, deterministic: bool = True, record: bool = False, seed: int = 0) -> None:
        """Wrap a module.

        Args:
            module: the agent to run, on the device it lies on.
            deterministic: most likely action instead of a draw.
            record: put what the memory attends to into ``info["inspect"]`` of every `act`.
            seed: of the draws, until `initial_state` gives another.
        """
        self.module = module.eval()
        self.deterministic = deterministic
        self.record = record
        self.device = module.head.out.weight.device
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return the memory state of ``n`` fresh episodes; ``seed`` restarts the draws."""
        if seed is not None:
            self._generator.manual_seed(seed)
        with torch.inference_mode():
            return self.module.initial_state(n)

    @torch.inference_mode()
    def act(
        self,
        obs: Any,
        state: State,
        reset: np.ndarray,
        privileged: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return actions (B, ...), the next state and info (``inspect``: numpy arrays (B, ...), when recording).

        Raises:
            UsageError: ``reset`` does not fit the batch.
        """
        named = as_dict_obs(self.module.observation_space, obs)
        batch = len(next(iter(named.values())))
        if np.shape(reset) != (batch,):
            raise UsageError(f"expected reset of shape {(batch,)}, got {np.shape(reset)}")
        tensors = {key: torch.from_numpy(np.ascontiguousarray(value)).to(self.device) for key, value in named.items()}
        opens = torch.from_numpy(np.array(reset, dtype=bool)).to(self.device)
        info: dict[str, Any] = {}
        if self.record:
            seen = self.module.inspect(tensors, state, opens)
            info["inspect"] = {key: value.cpu().numpy() for key, value in seen.items()}
        inputs, _, state = self.module.step(tensors, state, opens)
        return heads.to_env(self.module.action_space, self.choose(inputs).cpu().numpy()), state, info

    def choose(self, inputs: Tensor) -> Tensor:
        """Return actions as `heads.mode` and `heads.sample` give them for distribution inputs (B, A)."""
        space = self.module.action_space
        return heads.mode(space, inputs) if self.deterministic else heads.sample(space, inputs, self._generator)


def save_agent(
    directory: str | Path, module: Bundled, *, deterministic: bool = True, about: Mapping[str, Any] | None = None
) -> Path:
    """Write a bundle, atomically: the folder is complete or absent.

    Args:
        directory: folder to create or replace.
        module: the agent's module.
        deterministic: how `load_agent` lets it act by default.
        about: JSON-able facts about its origin (preset, env, seed, steps).

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    weights = save({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()})
    description = {
        "format": BUNDLE_FORMAT,
        "kind": getattr(module, "bundle_kind", KIND),
        "version": __version__,
        "config": to_dict(module.config),
        "observation_space": space_to_json(module.observation_space),
        "action_space": space_to_json(module.action_space),
        "deterministic": deterministic,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "about": dict(about or {}),
    }
    with atomic_dir(directory) as folder:
        atomic_write_bytes(folder / WEIGHTS_FILE, weights)
        atomic_write_json(folder / CONFIG_FILE, description)
    return Path(directory)


def load_agent(
    directory: str | Path, device: str = "cpu", *, deterministic: bool | None = None, record: bool = False
) -> PolicyAgent:
    """Read a bundle, or the bundle of a run folder, without Ray; of other kinds, the agent that is registered for them.

    Args:
        directory: a bundle, or a run folder that holds one.
        device: torch device name.
        deterministic: most likely action instead of a draw; None = as the bundle says.
        record: see `PolicyAgent`.

    Raises:
        UsageError: there is no bundle, or it is torn, altered, of a newer format, or names an unknown component.
    """
    folder = find_bundle(directory)
    description, raw = _read_bundle(folder)
    kind = description.get("kind", KIND)
    if kind != KIND:
        return _fitting(folder, lambda: registry.get("bundle", kind)(description, load(raw), device))
    module = _fitting(folder, lambda: _build(description, raw))
    chosen = bool(description.get("deterministic", True)) if deterministic is None else deterministic
    return PolicyAgent(module.to(device), deterministic=chosen, record=record)


def load_weights(module: nn.Module, directory: str | Path, *, fresh_value: bool = False) -> None:
    """Give ``module`` the weights of the trained agent in ``directory`` (a bundle, or a run folder that holds one).

    With ``fresh_value`` the values of a `MemoryAgent` begin at 0 instead: imitation never taught them.

    Raises:
        UsageError: there is none, it is damaged, or its weights do not fit the module.
    """
    folder = find_bundle(directory)
    weights = load(_read_bundle(folder)[1])
    own = module.state_dict()
    shapes = [{key: value.shape for key, value in part.items()} for part in (weights, own)]
    wrong = sorted(key for key in {*weights, *own} if shapes[0].get(key) != shapes[1].get(key))
    if wrong:
        raise UsageError(
            f"expected the agent in {folder} to have the settings of this one, but {len(wrong)} weights differ, "
            f"first {wrong[0]!r}; give the same agent.* settings"
        )
    module.load_state_dict(weights)
    if fresh_value:
        head: Any = module.head
        head.forget_value()


def find_bundle(directory: str | Path) -> Path:
    """Return the bundle folder in ``directory``: itself, ``agent/`` or ``seed0/agent/``.

    Raises:
        UsageError: there is none.
    """
    for place in BUNDLE_PLACES:
        if (Path(directory) / place / CONFIG_FILE).is_file():
            return Path(directory) / place
    raise UsageError(f"expected a trained agent ({CONFIG_FILE}, {WEIGHTS_FILE}) in {directory}, found none")


def _read_bundle(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Return the description of a bundle and its weights as they lie in the file, after checking both."""
    description = read_json(directory / CONFIG_FILE)
    needed = ("format", "config", "observation_space", "action_space", "weights_sha256")
    if not isinstance(description, dict) or not set(needed) <= set(description):
        raise UsageError(f"{directory / CONFIG_FILE} is no agent description: expected the keys {', '.join(needed)}")
    if description["format"] != BUNDLE_FORMAT:
        raise UsageError(f"{directory} has bundle format {description['format']}, this version reads {BUNDLE_FORMAT}")
    path = directory / WEIGHTS_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the weights of the agent, {path}: {error.strerror}") from error
    if hashlib.sha256(raw).hexdigest() != description["weights_sha256"]:
        raise UsageError(f"{path} is corrupted: its checksum is not the one in {CONFIG_FILE}; copy the bundle again")
    return description, raw


def _build(description: Mapping[str, Any], raw: bytes) -> MemoryAgent:
    spaces = [space_from_json(description[key]) for key in ("observation_space", "action_space")]
    module = MemoryAgent.build(from_dict(AgentConfig, description["config"]), *spaces)
    module.load_state_dict(load(raw))
    return module


def _fitting(directory: Path, make: Callable[[], T]) -> T:
    """Return what ``make`` builds; weights that do not fit their description are one line."""
    try:
        return make()
    except (SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise UsageError(f"{directory / WEIGHTS_FILE} does not fit its description: {text}") from error
