"""One call that makes a vector environment of any registered Gymnasium id."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from embodied_mem import registry
from embodied_mem.envs.autoreset import AssignedEpisodes
from embodied_mem.envs.base import BatchedEnv, autoreset
from embodied_mem.envs.previous_action import with_previous_action
from embodied_mem.envs.registration import ENVIRONMENTS, NAMESPACE
from embodied_mem.envs.remote.client import SCHEME, remote_spec
from embodied_mem.envs.restart import RestartingEnv
from embodied_mem.errors import UsageError, nearest

VECTORIZATIONS = ("auto", "sync", "async", "native")
SET_BY_CALLER = ("env_id", "num_envs", "autoreset_mode")
"""Parameters of `make_vec` that whoever makes an environment passes beside the user's options."""


def make_vec(
    env_id: str,
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    vectorization: str = "auto",
    restart_failed: bool = False,
    previous_action: bool = False,
    **kwargs: Any,
) -> VectorEnv:
    """Return a vector environment of ``num_envs`` rows.

    Environments written as `BatchedEnv` run as arrays. Others run as ``num_envs`` copies in Gymnasium's SyncVectorEnv
    or AsyncVectorEnv; in DISABLED mode these get the ``episode`` option through `AssignedEpisodes`.

    Args:
        env_id: any registered id; ``TMaze-v0`` stands for ``embodied_mem/TMaze-v0``; ``module:id`` imports the module;
            ``remote:ws://host:port`` is the environment served there (see `remote`).
        num_envs: number of rows, >= 1.
        autoreset_mode: training wants NEXT_STEP, evaluation DISABLED.
        vectorization: "auto" (arrays where possible, else sync), "sync", "async" (one process per row), or "native"
            (the id's own vector entry point, whatever class it is).
        restart_failed: copies of scalar environments that raise are made anew (see `restart`); the others go on.
        previous_action: add the action just played to the observations (see `previous_action`).
        kwargs: keywords of the environment.

    Raises:
        UsageError: no such id, an option that the environment does not have, or a bad value.

    >>> make_vec("TMaze-v0", 3, length=5).num_envs
    3
    """
    mode = autoreset(autoreset_mode)
    return with_previous_action(_make(env_id, num_envs, mode, vectorization, restart_failed, kwargs), previous_action)


def check_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a user that are not the environment's to take, but parameters of `make_vec`.

    Raises:
        UsageError: there is one.
    """
    for name in SET_BY_CALLER:
        if name in options:
            hint = " (eval: --num-envs)" if name == "num_envs" else ""
            raise UsageError(f"{name!r} is no option of the environment {env_id}: the program sets it{hint}")


def find_spec(env_id: str) -> EnvSpec:
    """Return the Gymnasium spec of an id, of a short id, or of ``module:id``; plug-ins are loaded first.

    Raises:
        UsageError: there is none; the nearest ids are named.
    """
    registry.load_plugins()
    if env_id.startswith(SCHEME):
        return remote_spec(env_id)
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UsageError(f"cannot import module {error.name!r} named in the environment id {env_id!r}") from error
    for candidate in (name, f"{NAMESPACE}/{name}"):
        try:
            return gymnasium.spec(candidate)
        except gymnasium.error.Error:
            continue
    known = [*gymnasium.registry, *(item.name for item in ENVIRONMENTS)]
    ours = ", ".join(item.name for item in ENVIRONMENTS)
    raise UsageError(f"unknown environment {env_id!r}{nearest(name, known)}; built in: {ours}; or any Gymnasium id")


def renders_pictures(env_id: str) -> bool:
    """Return False where an environment says that it has no render mode ``rgb_array``.

    Raises:
        UsageError: there is no such id, or its module cannot be imported.
    """
    spec = find_spec(env_id)
    with _foreign(spec, {}):
        creator = _creator(spec.entry_point or spec.vector_entry_point)
    metadata = getattr(creator, "metadata", None)
    # A function says nothing; what it makes may render.
    return not isinstance(metadata, Mapping) or "rgb_array" in metadata.get("render_modes", ())


def portable_id(env_id: str) -> str:
    """Return the id in the form that names the module to import, which other processes can resolve.

    Ids of other packages are returned as they are.
    """
    spec = find_spec(env_id)
    return next((item.portable_id for item in ENVIRONMENTS if item.id == spec.id), env_id)


def _make(
    env_id: str, num_envs: int, mode: AutoresetMode, vectorization: str, restart_failed: bool, kwargs: dict[str, Any]
) -> VectorEnv:
    if vectorization not in VECTORIZATIONS:
        hint = nearest(str(vectorization), VECTORIZATIONS)
        raise UsageError(f"unknown vectorization {vectorization!r}{hint}; available: {', '.join(VECTORIZATIONS)}")
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise UsageError(f"expected num_envs >= 1 (int), got {num_envs!r}")
    spec = find_spec(env_id)
    with _foreign(spec, kwargs):
        native = None if spec.vector_entry_point is None else _creator(spec.vector_entry_point)
    is_batched = isinstance(native, type) and issubclass(native, BatchedEnv)
    if vectorization == "native" and native is None:
        raise UsageError(f"{spec.id} has no vector entry point; use vectorization='sync'")
    if vectorization == "native" or (vectorization == "auto" and (is_batched or getattr(native, "remote", False))):
        if is_batched:
            assert isinstance(native, type)
            _check_keywords(spec.id, native, {**spec.kwargs, **kwargs})
            return gymnasium.make_vec(spec, num_envs, "vector_entry_point", autoreset_mode=mode, **kwargs)
        with _foreign(spec, kwargs):
            return gymnasium.make_vec(spec, num_envs, "vector_entry_point", autoreset_mode=mode, **kwargs)
    single = functools.partial(_single, spec, kwargs)
    make_one = functools.partial(RestartingEnv, single) if restart_failed else single
    return _copies(spec, num_envs, mode, asynchronous=vectorization == "async", make_one=make_one, kwargs=kwargs)


def _copies(
    spec: EnvSpec,
    n: int,
    mode: AutoresetMode,
    *,
    asynchronous: bool,
    make_one: Callable[[], gymnasium.Env],
    kwargs: dict[str, Any],
) -> VectorEnv:
    functions = [make_one] * n
    maker = AsyncVectorEnv if asynchronous else SyncVectorEnv
    with _foreign(spec, kwargs):
        env: VectorEnv = maker(functions, autoreset_mode=mode)
    # Gymnasium writes the mode into metadata that other environments share; keep this instance's own copy.
    env.metadata = {**env.metadata, "autoreset_mode": mode}
    return AssignedEpisodes(env) if mode is AutoresetMode.DISABLED else env


@contextmanager
def _foreign(spec: EnvSpec, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Turn what an environment's module or constructor raises into one line.

    Raises:
        UsageError: a package is missing (it is named), or the options were refused.
    """
    try:
        yield
    except UsageError:
        raise
    except (ImportError, TypeError, ValueError, AssertionError, gymnasium.error.Error) as error:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            raise UsageError(f"cannot make {spec.id}: it needs the package {package!r}, which is missing") from error
        given = f" with {dict(kwargs)}" if kwargs else ""
        raise UsageError(f"cannot make {spec.id}{given}: {str(error) or type(error).__name__}") from error


def _single(spec: EnvSpec, kwargs: dict[str, Any]) -> gymnasium.Env:
    env = gymnasium.make(spec, **kwargs)
    env.metadata = dict(env.metadata)
    return env


def _creator(entry_point: Any) -> Any:
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _check_keywords(env_id: str, cls: type, kwargs: dict[str, Any]) -> None:
    if getattr(cls, "open_options", False):
        return
    known: set[str] = set()
    for base in cls.__mro__:
        if base is not object and "__init__" in vars(base) and issubclass(base, BatchedEnv):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            known |= {item.name for item in parameters if item.kind in (item.KEYWORD_ONLY, item.POSITIONAL_OR_KEYWORD)}
    known -= {"self", "num_envs", "autoreset_mode"}
    for key in kwargs:
        if key not in known:
            available = ", ".join(sorted(known))
            raise UsageError(f"{env_id} has no option {key!r}{nearest(key, known)}; available: {available}")
