"""Where the rows of a batch run: one after another in this process, or each in a Ray actor of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from embodied_mem.envs.thor.player import PlayerConfig, PlayerFailure
from embodied_mem.envs.thor.row import Row
from embodied_mem.errors import UsageError
from embodied_mem.private_ray import start_private_ray

logger = logging.getLogger(__name__)

Maker = Callable[[], Row]
BACKENDS = ("local", "ray")
SCENE_ANSWERS = 40
"""Answers of the player that one `begin` may take, for the deadline of an actor."""


class Failure:
    """Instead of an answer: the player of a row, or the actor around it, failed.

    Args:
        reason: what happened, in words.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Failure({self.reason!r})"


class Seats(Protocol):
    """The rows of one batch."""

    def call(self, method: str, arguments: Mapping[int, tuple]) -> dict[int, Any]:
        """Call a method of some rows and return {row: answer or `Failure`}; a failed row is ready to begin anew."""

    def close(self) -> None:
        """End all players."""


class LocalSeats:
    """Rows in this process, called one after another."""

    def __init__(self, make: Maker, n: int) -> None:
        self.rows = [make() for _ in range(n)]

    def call(self, method: str, arguments: Mapping[int, tuple]) -> dict[int, Any]:
        """See `Seats`."""
        return {row: _guarded(self.rows[row], method, given) for row, given in arguments.items()}

    def close(self) -> None:
        """See `Seats`."""
        for row in self.rows:
            row.close()


class RaySeats:
    """One Ray actor per row; they work at the same time.

    Ray must be able to start: the one that is initialised is used, else a private one is started on this machine.

    Args:
        make: makes a row; it is sent to the actors.
        n: number of rows.
        config: its time-outs bound how long an actor may take.
        cpus: logical CPUs each actor asks for.
    """

    def __init__(self, make: Maker, n: int, config: PlayerConfig, cpus: float) -> None:
        import ray

        self._own_ray = not ray.is_initialized()
        if self._own_ray:
            start_private_ray()
        # Houses may be many; they are stored once and not sent with every actor.
        self._ray, self._make = ray, ray.put(make)
        self._config = config
        # No GPU is asked for, so CUDA_VISIBLE_DEVICES is empty in the actor and the client looks for none.
        self._actor: Any = ray.remote(num_cpus=cpus, max_restarts=0)(RowActor)
        self.actors: list[Any] = [self._actor.remote(self._make) for _ in range(n)]

    def call(self, method: str, arguments: Mapping[int, tuple]) -> dict[int, Any]:
        """See `Seats`."""
        ray = self._ray
        if not arguments:
            return {}
        pending = {self.actors[row].call.remote(method, given): row for row, given in arguments.items()}
        limit = 3.0 * self._config.step_timeout
        if method == "begin":
            limit = 2.0 * self._config.start_timeout + SCENE_ANSWERS * self._config.step_timeout
        ready, late = ray.wait(list(pending), num_returns=len(pending), timeout=limit)
        answers: dict[int, Any] = {}
        for reference in ready:
            row = pending[reference]
            try:
                answers[row] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UsageError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayActorError as error:
                answers[row] = self._replace(row, f"its actor died: {type(error).__name__}")
        for reference in late:
            answers[pending[reference]] = self._replace(pending[reference], f"its actor gave no answer in {limit:g} s")
        return answers

    def close(self) -> None:
        """See `Seats`."""
        ray = self._ray
        if not ray.is_initialized():
            return
        ray.wait([actor.call.remote("close", ()) for actor in self.actors], num_returns=len(self.actors), timeout=30.0)
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []
        if self._own_ray:
            ray.shutdown()

    def _replace(self, row: int, reason: str) -> Failure:
        logger.warning("row %d of the AI2-THOR batch failed (%s); it gets a new actor", row, reason)
        self._ray.kill(self.actors[row])
        self.actors[row] = self._actor.remote(self._make)
        return Failure(reason)


class RowActor:
    """Holds one row inside an actor."""

    def __init__(self, make: Maker) -> None:
        self._row = make()

    def call(self, method: str, given: tuple) -> Any:
        """Call a method of the row."""
        return _guarded(self._row, method, given)


def make_seats(backend: str, make: Maker, n: int, config: PlayerConfig, cpus: float) -> Seats:
    """Return the seats of a back end, "local" or "ray".

    Raises:
        UsageError: there is no such back end.
    """
    if backend not in BACKENDS:
        raise UsageError(f"expected backend to be one of {BACKENDS}, got {backend!r}")
    return LocalSeats(make, n) if backend == "local" else RaySeats(make, n, config, cpus)


def _guarded(row: Row, method: str, given: tuple) -> Any:
    try:
        return getattr(row, method)(*given)
    except PlayerFailure as failure:
        logger.warning("%s", failure)
        return Failure(str(failure))
