"""Writing as an environment: one frame of a stream per step, a reward wherever a question is answered.

    observation   f (D + 2,): direction of the frame, likeness to what is held, 1        (`TaskMem.features`)
    action        (1,) float, what the frame is worth: below 0 it is left out; of more than ``slots`` the least leaves
    reward        of a question: what is scored for its answer from the memory as it is then, over all questions

The sum of the rewards of an episode is the share of its questions that were answered. Questions come at the time they
are asked, after the frame of that second was written; the policy never sees one (no task-aware track).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.stream.evidence import Snapshot
from embodied_mem.stream.memories.task_mem import TaskMem, TaskMemConfig

Score = Callable[[Snapshot], float]
"""What an answer from this memory is worth, 0..1."""


@dataclass(frozen=True)
class Episode:
    """One stream with its questions."""

    tokens: np.ndarray
    """(T, P, D) float32."""
    times: np.ndarray
    """(T,) float64 seconds, ascending."""
    questions: Sequence[tuple[float, Score]]
    """Second and score of every question, in the order of time."""


Draw = Callable[[int], Episode]
"""Seed -> an episode."""


class MemoriseEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One stream per episode; ``info`` of the last step has ``answered``, the share of its questions."""

    def __init__(self, draw: Draw, *, slots: int = 64) -> None:
        """Choose the streams.

        Args:
            draw: seed -> episode; all of one token shape.
            slots: frames that the memory holds.
        """
        self.draw = draw
        self.memory = TaskMem(TaskMemConfig(slots=slots))
        width = draw(0).tokens.shape[2]
        self.observation_space = spaces.Box(-np.inf, np.inf, (width + 2,), np.float32)
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next stream; it is drawn from this environment's generator."""
        super().reset(seed=seed)
        self._episode = self.draw(int(self.np_random.integers(1, 2**31 - 1)))
        if not len(self._episode.tokens) or not self._episode.questions:
            raise UsageError("expected an episode with frames and questions")
        self.memory.reset()
        self._frame = self._asked = 0
        self._answered = 0.0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Write the frame or not, and answer what is asked until the next one."""
        e, frame = self._episode, self._frame
        self.memory.write_valued(float(np.asarray(action).reshape(-1)[0]), e.tokens[frame], float(e.times[frame]))
        self._frame += 1
        over = self._frame == len(e.tokens)
        until = np.inf if over else float(e.times[self._frame])
        reward, snapshot = 0.0, self.memory.snapshot()
        while self._asked < len(e.questions) and e.questions[self._asked][0] < until:
            reward += e.questions[self._asked][1](snapshot) / len(e.questions)
            self._asked += 1
        self._answered += reward
        info = {"answered": self._answered} if over else {}
        # after the last frame there is nothing to decide about
        seen = np.zeros(self.observation_space.shape or (), np.float32) if over else self._seen()
        return seen, reward, over, False, info

    def _seen(self) -> np.ndarray:
        return self.memory.features(self._episode.tokens[self._frame]).astype(np.float32)


class HouseEpisodes:
    """Walks through painted houses, one frame per second, answered by the head ``house-head``; a `Draw`.

    It travels to other processes without its walks; each process draws and encodes its own.
    """

    def __init__(
        self, seconds: int = 300, *, each: int = 3, split: str = "train", streams: int = 256, kept: int = 64
    ) -> None:
        """Choose the walks.

        Args:
            seconds: length of a walk.
            each: questions per kind.
            split: of the houses.
            streams: different walks.
            kept: encoded walks that stay in memory.
        """
        self.seconds, self.each, self.split, self.streams, self.kept = seconds, each, split, streams, kept
        self._walks: OrderedDict[int, Episode] = OrderedDict()
        self._models: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_walks": OrderedDict(), "_models": None}

    def __call__(self, seed: int) -> Episode:
        """Return the walk of a seed; seeds repeat after ``streams``."""
        number = seed % self.streams
        if number not in self._walks:
            self._walks[number] = self._drawn(number)
            while len(self._walks) > self.kept:
                self._walks.popitem(last=False)
        return self._walks[number]

    def _drawn(self, number: int) -> Episode:
        from embodied_mem.perception.house_view import load_net
        from embodied_mem.stream.answerers import make_answerer
        from embodied_mem.stream.house_tour.questions import ask
        from embodied_mem.stream.house_tour.replay import encode_stream
        from embodied_mem.stream.house_tour.tours import TourStream

        if self._models is None:
            self._models = load_net(), make_answerer("house-head")
        done = encode_stream(TourStream(self.seconds, number, self.split), self._models[0])
        asked = [(q.ask_s, self._score(q)) for q in ask(done.log, self.each, number)]
        return Episode(done.tokens[:, None], np.arange(len(done.tokens), dtype=np.float64), asked)

    def _score(self, question: Any) -> Score:
        from embodied_mem.stream.answerers import request_for
        from embodied_mem.stream.house_tour.replay import recall

        assert self._models is not None
        answerer = self._models[1]

        def answered(snapshot: Snapshot) -> float:
            evidence = recall(snapshot, question, "question")
            request = request_for(question.text, evidence, options=question.options, embeds=True)
            return float(answerer.answer(request).choice == question.answer)

        return answered
