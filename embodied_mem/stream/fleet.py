"""Many streams on many machines: every session is a Ray actor, asked from wherever the cluster is reached.

    with Fleet({"door": "rtsp://...", "hall": "rtsp://..."}, SessionConfig(checkpoint="/shared/run")) as fleet:
        fleet.ask("Is anybody there?")          # {"door": Reply, "hall": Reply}, answered side by side

An actor opens its source, builds memory, encoder and answerer on its own machine, and starts to read at once. A reply
comes back with its evidence; frames never leave the machine otherwise. Ray starts an actor that died again
(``restarts`` times); with a checkpoint folder, which has to lie where every machine sees it, its memory goes on from
the last one. A source that cannot be opened is told when the fleet is made. Where Ray runs already
(``ray.init(address=...)``), its cluster is used; else a private one is started on this machine and stopped with the
fleet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.private_ray import start_private_ray
from embodied_mem.stream.asker import Reply
from embodied_mem.stream.asking import make_asker
from embodied_mem.stream.session import Session, SessionConfig, SessionCounters
from embodied_mem.stream.sources import open_source


class StreamActor:
    """One session, built and run where the actor lives; usable without Ray too."""

    def __init__(
        self, source: str, config: SessionConfig, fps: float | None, answerer: str, options: Mapping[str, Any]
    ) -> None:
        """Open the source and begin to read; see `Fleet`.

        Raises:
            UsageError: a name or value is wrong, or the source cannot be opened.
        """
        self.asker = make_asker(answerer, options)
        self.session = Session(open_source(source, fps=fps), config).start()

    def ask(self, question: str, options: tuple[str, ...] | None = None) -> Reply:
        """Return the answer from the memory as it is now."""
        return self.session.ask(question, self.asker, options=options)

    def facts(self) -> dict[str, Any]:
        """Return counters, seconds and bytes of the memory, milliseconds per stage, and what went wrong."""
        session = self.session
        error = session.error
        return {
            "counters": session.counters(),
            "until_s": session.memory.until_s,
            "bytes": session.memory.nbytes(),
            "timings_ms": session.timings_ms(),
            "running": session.running,
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "pid": os.getpid(),
        }

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the source, see `Session.join`."""
        return self.session.join(timeout_s)

    def close(self) -> None:
        """Stop reading, and save with a checkpoint folder."""
        self.session.close()


class Fleet:
    """Sessions by name, each an actor of Ray."""

    def __init__(
        self,
        sources: Mapping[str, str],
        config: SessionConfig | None = None,
        *,
        fps: float | None = None,
        answerer: str = "rule",
        answerer_options: Mapping[str, Any] | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        restarts: int = 3,
    ) -> None:
        """Start one actor per source.

        Args:
            sources: name -> what `open_source` opens, on the machine of the actor.
            config: of every session; each has its own folder, by name, below ``checkpoint``.
            fps: frames per second of the sources at most.
            answerer: by name; every actor has its own.
            answerer_options: of the answerer.
            cpus: processors that Ray sets aside for an actor.
            gpus: the same of GPUs.
            restarts: times that Ray starts an actor again.

        Raises:
            UsageError: there is no source, or one cannot be opened.
        """
        if not sources:
            raise UsageError("expected at least one source, got none")
        import ray

        self._own = not ray.is_initialized()
        if self._own:
            start_private_ray(num_cpus=max(os.cpu_count() or 1, round(cpus * len(sources) + 0.5)))
        made = ray.remote(StreamActor).options(  # type: ignore[attr-defined]
            num_cpus=cpus, num_gpus=gpus, max_restarts=restarts, max_task_retries=restarts, max_concurrency=4
        )
        config = config or SessionConfig()
        self.actors: dict[str, Any] = {}
        for name, source in sources.items():
            folder = None if config.checkpoint is None else str(Path(config.checkpoint) / name)
            own = replace(config, checkpoint=folder)
            self.actors[name] = made.remote(source, own, fps, answerer, dict(answerer_options or {}))
        try:
            self.facts()
        except UsageError:
            self._stop()
            raise

    def ask(
        self, question: str, *, names: list[str] | None = None, options: tuple[str, ...] | None = None
    ) -> dict[str, Reply]:
        """Ask sessions side by side; every one answers from its own memory.

        Args:
            question: what is asked.
            names: which sessions; None for all.
            options: answers to choose from.

        Raises:
            UsageError: there is no session of this name, or one cannot answer.
        """
        chosen = list(self.actors) if names is None else names
        unknown = [name for name in chosen if name not in self.actors]
        if unknown:
            raise UsageError(f"expected sessions of {', '.join(self.actors)}, got {unknown[0]!r}")
        return self._all("ask", {name: self.actors[name] for name in chosen}, question, options)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return what `StreamActor.facts` says of every session."""
        return self._all("facts", self.actors)

    def counters(self) -> dict[str, SessionCounters]:
        """Return what happened to the frames of every session."""
        return {name: facts["counters"] for name, facts in self.facts().items()}

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of all sources; False where one still runs after ``timeout_s`` seconds."""
        return all(self._all("join", self.actors, timeout_s).values())

    def close(self) -> None:
        """Stop and save every session, then its actor."""
        try:
            self._all("close", self.actors)
        finally:
            self._stop()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close() if kind is None else self._stop()

    def _all(self, method: str, actors: Mapping[str, Any], *arguments: Any) -> dict[str, Any]:
        import ray

        waiting = {name: getattr(actor, method).remote(*arguments) for name, actor in actors.items()}
        found = {}
        for name, reference in waiting.items():
            try:
                found[name] = ray.get(reference)
            except ray.exceptions.RayError as error:
                raise UsageError(f"session {name}: {_cause(error)}") from error
        return found

    def _stop(self) -> None:
        import ray

        for actor in self.actors.values():
            ray.kill(actor)
        self.actors = {}
        if self._own:
            ray.shutdown()


def _cause(error: BaseException) -> str:
    """Return the last line of what an actor raised: the reason, without its trace."""
    inner = getattr(error, "cause", None)
    if inner is not None:
        return " ".join(str(inner).split())[-300:]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][-300:] if lines else type(error).__name__
