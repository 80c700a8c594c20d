"""``rules``: follows a street instruction with regular expressions, without training and without pictures.

The text becomes a plan (`read_plan`): turns, each at the k-th junction since the one before, and where to stop. The
agent counts junctions (panoramas of more than two links) as it reaches them, picks the street whose angle fits the turn
and stops where the plan says, or after `ENOUGH` panoramas. Orientation at the start, landmarks and parts of blocks
cannot be known without pictures: where the text says no more than that, the usual length of a route decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.spaces import decode_text

FORWARD, LEFT, RIGHT, STOP, TURN_AROUND = range(5)
ENOUGH = 37
"""Panoramas after which an episode without another cue ends: between the usual lengths of both data sets, 34 and 40."""
END = 99
"""Junction number that stands for the end of the street: turn where nothing leads straight on."""
STRAIGHT, TURN = 30.0, 20.0
"""Degrees: a street within the first is straight on, one beyond the second is a turn."""

NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "a couple of": 2, "couple of": 2,
    "both": 2, "several": 3, "a few": 3, "few": 3, "a": 1, "an": 1, "another": 1, "the": 1, "next": 1, "first": 1,
    "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5, "following": 1,
}  # fmt: skip
_COUNT = r"(?:\d+|one|two|three|four|five|six|seven|both|a couple of|couple of|a few|few|several|another|an?)"
_ORDINAL = r"(?:first|1st|second|2nd|third|3rd|fourth|4th|fifth|5th|next|following|\d+(?:st|nd|rd|th))"
_NOUN = (
    r"(?:sets? of (?:traffic |stop)?lights?|(?:traffic |stop |street )?lights?|stoplights?|intersections?|"
    r"cross ?streets?|crossroads?|corners?|crosswalks?|junctions?|stop ?signs?|blocks?|streets?|traffic signals?)"
)
_SOFT = (
    r"(?:a |an |the |your |another |sharp |hard |slight |quick |immediate |first |second |third |next |possible |"
    r"to the )"
)
_TURN = re.compile(
    rf"\b(?:turn(?:ing)?|mak(?:e|ing)|tak(?:e|ing)|hang(?:ing)?|go(?:ing)?|bear|veer|then|and|,) {_SOFT}{{0,3}}"
    r"(?P<side>left|right)\b(?! (?:side|of|past|by|before|next to|in front|behind|where|there|corner))"
    rf"|\b(?P<other>left|right)(?:[- ]hand)? turn\b|(?:^|[.;!] ?)(?P<bare>left|right) (?:at|on|onto|turn)\b"
)
_END = re.compile(
    r"\bt[- ](?:intersection|junction)|\bdead end|\bend of the (?:street|road|block)|\b(?:street|road) ends"
)
_PASS = re.compile(
    rf"\b(?:through|past|pass(?:ing)?|across|cross(?:ing)?|over|straight(?: ahead)? (?:at|for)|continue (?:for|at)|"
    rf"(?:go|walk|head|travel|proceed|move)(?: straight| forward| down| for| another)*)(?: through| past)?"
    rf"(?: the| your| this| that)?(?P<words>(?: {_COUNT}| {_ORDINAL}| more| full)*) (?P<noun>{_NOUN})"
)
_AT = re.compile(rf"\b(?:(?P<ordinal>{_ORDINAL})(?: major| big| real| available)?(?: set of)?) {_NOUN}")
_STEPS = re.compile(
    rf"\b(?P<count>{_COUNT})(?: or (?:two|three|so))?(?: small| more| big)? (?:steps?|paces?|clicks?|feet)\b"
)
_STOP = re.compile(
    r"\bstop\b|\byou(?:'ll| will)? (?:have )?(?:arrived?|reach)|\bdestination\b|\bend (?:up )?(?:at|in|here)"
)


@dataclass(frozen=True)
class Plan:
    """What an instruction asks for, as far as it can be followed without pictures."""

    turns: tuple[tuple[int, int], ...] = ()
    """(junction, side): at which junction since the last turn, and -1 left or 1 right."""
    around: bool = False
    """Turn round at the start."""
    junctions: int | None = None
    """Stop at this junction after the last turn."""
    passed: int = 0
    """Junctions to pass after the last turn before the steps count."""
    steps: int | None = None
    """Stop so many panoramas after that."""


def read_plan(text: str) -> Plan:
    """Return the plan of an instruction.

    >>> read_plan("Go through one light. At the second light turn left. Stop two steps after the turn.")
    Plan(turns=((2, -1),), around=False, junctions=None, passed=0, steps=2)
    """
    text = plain(text)
    mentions = find_turns(text)
    rest = text[mentions[-1].stop if mentions else 0 :]
    turns = tuple((item.junction, item.side) for item in mentions)
    return replace(read_ending(rest), turns=turns, around=_turns_around(text))


def plain(text: str) -> str:
    """Return a text in small letters, single spaces and plain apostrophes."""
    return " ".join(text.lower().replace("\u2019", "'").split())


@dataclass(frozen=True)
class Mention:
    """A turn that a text names."""

    start: int
    """Letters before it."""
    stop: int
    """Letters up to its end."""
    end: int
    """Letters up to the end of its sentence, or to another turn or stop in it."""
    side: int
    """-1 left, 1 right."""
    junction: int
    """At which junction since the turn before; `END` is the end of the street."""
    passed: int
    """Junctions that the text before it says are passed."""


def find_turns(text: str, pattern: re.Pattern[str] = _TURN) -> list[Mention]:
    """Return the turns of a `plain` text, in order.

    Args:
        text: the text.
        pattern: what is a turn; one of its named groups holds left or right.
    """
    found: list[Mention] = []
    since = 0
    for item in pattern.finditer(text):
        side = next(value for value in item.groupdict().values() if value)
        first, end = _sentence(text, item.start(), item.end(), pattern)
        before = text[since : item.start()]
        junction, passed = _junction(before, text[first:end]), _passed(before)
        found.append(Mention(item.start(), item.end(), end, -1 if side == "left" else 1, junction, passed))
        since = item.end()
    return found


def _turns_around(text: str) -> bool:
    found = re.search(r"\b(?:turn|go|head) (?:back )?around\b(?! the)", text[:120])
    return found is not None


def _sentence(text: str, start: int, stop: int, pattern: re.Pattern[str]) -> tuple[int, int]:
    """Return where the sentence around a turn begins and ends, or where another turn or stop in it begins."""
    left = max(text.rfind(mark, 0, start) for mark in ".;!") + 1
    right = min((place for mark in ".;!" if (place := text.find(mark, stop)) >= 0), default=len(text))
    tail = text[stop:right]
    cut = min((found.start() for found in (pattern.search(tail), _STOP.search(tail)) if found), default=len(tail))
    return left, stop + cut


def _junction(before: str, clause: str) -> int:
    """Return the number of the junction to turn at, from the text since the last turn and the turn's own sentence."""
    if _END.search(clause):
        return END
    passed = _passed(before)
    ordinals = [_number(found["ordinal"]) for found in _AT.finditer(clause)]
    own = ordinals[-1] if ordinals else 1
    return max(own, passed + 1) if own > 1 else passed + 1


def _passed(text: str) -> int:
    """Return how many junctions a text says are passed straight on."""
    total, highest = 0, 0
    for found in _PASS.finditer(text):
        words = found["words"].split()
        ordinal = next(
            (word for word in words if re.fullmatch(_ORDINAL, word) and word not in ("next", "following")), ""
        )
        if ordinal and not found["noun"].endswith("s"):
            highest = max(highest, _number(ordinal))
            continue
        count = next((_number(word) for word in words if _number(word, 0)), 0)
        plural = found["noun"].endswith("s")
        total += count if count else (2 if plural else 1)
    return max(total, highest)


def read_ending(rest: str) -> Plan:
    """Return a plan with the stop rule of the text after the last turn."""
    stop = _STOP.search(rest)
    before, after = (rest[: stop.start()], rest[stop.start() :]) if stop else (rest, "")
    passed = _passed(before)
    steps = _STEPS.search(rest)
    if steps:
        return Plan(passed=passed, steps=max(1, _number(steps["count"])))
    if re.search(r"\b(?:halfway|half way|middle of the block|mid-?block)", after or rest):
        return Plan(passed=passed, steps=5)
    near = re.search(rf"\b(?:at|before|by|reach|to|until|short of)\b[^.]{{0,30}}?{_NOUN}", after)
    if near and not re.search(r"\bcorner\b", near[0]):
        return Plan(junctions=passed + 1)
    if re.search(r"\b(?:after|once) (?:you |the |your |making the )*turn|\b(?:immediately|right away)\b", after):
        return Plan(steps=2)
    if re.search(rf"\b(?:past|after|through)\b[^.]{{0,20}}?{_NOUN}", after):
        return Plan(passed=passed + 1, steps=2)
    return Plan(passed=passed, steps=3) if passed else Plan()


def _number(word: str, unknown: int = 1) -> int:
    digits = re.match(r"\d+", word)
    return min(int(digits[0]), 9) if digits else NUMBERS.get(word, unknown)


@register("agent", "rules", about="street: regular expressions over the instruction, without training")
class RulesAgent:
    """Plays the plan of `read_plan`; reads ``instruction`` and ``vector`` only."""

    needs_privileged = False

    def __init__(self, env: VectorEnv | None = None) -> None:
        """Look at the rules of motion of ``env`` (default: touchdown)."""
        self._velma = getattr(getattr(env, "unwrapped", None), "semantics", "touchdown") == "velma"
        self._plans: dict[bytes, Plan] = {}

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, np.ndarray]:
        """Return (n,) int64 counters: turns made, junctions and panoramas since, all panoramas, rotations to make."""
        names = ("turns", "junctions", "walked", "visited", "rotate", "moved", "begun")
        return {name: np.zeros(n, np.int64) for name in names}

    def act(
        self,
        obs: Mapping[str, np.ndarray],
        state: dict[str, np.ndarray],
        reset: np.ndarray,
        privileged: Any = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
        """Return actions (B,) int64.

        Raises:
            UsageError: the observation has no ``instruction`` or no ``vector``.
        """
        if "instruction" not in obs or "vector" not in obs:
            raise UsageError(f"rules reads instruction and vector of the street environment, got {sorted(obs)}")
        state = {name: np.where(reset, 0, value) for name, value in state.items()}
        links = (obs["vector"].shape[1] - 11) // 2
        angles, there = obs["vector"][:, 4 : 4 + links] * 180.0, obs["vector"][:, 4 + links : 4 + 2 * links] > 0
        angles = np.where(there, angles, np.nan)
        # The touchdown rules snap the heading on arrival: turns are meant from the direction of arrival.
        snapped = np.zeros(len(reset)) if self._velma else obs["vector"][:, 4 + 2 * links] * 180.0
        actions = np.empty(len(reset), np.int64)
        for row in range(len(reset)):
            counters = {name: int(value[row]) for name, value in state.items()}
            actions[row] = self._decide(self._plan(obs["instruction"][row]), angles[row], float(snapped[row]), counters)
            for name, value in counters.items():
                state[name][row] = value
        return actions, state, {}

    def _plan(self, text: np.ndarray) -> Plan:
        key = text.tobytes()
        if key not in self._plans:
            self._plans[key] = read_plan(decode_text(text))
        return self._plans[key]

    def _decide(self, plan: Plan, angles: np.ndarray, snapped: float, count: dict[str, int]) -> int:
        """Return one row's action and update its counters."""
        angles = angles[~np.isnan(angles)]
        if not count["begun"]:
            count["begun"], count["visited"] = 1, 1
            if plan.around:
                if self._velma:
                    return TURN_AROUND
                return self._rotate(count, angles, float(angles[np.argmax(np.abs(angles))]))
        elif count["moved"]:
            self._arrive(count, len(angles) > 2)
        arrived, count["moved"] = count["moved"], 0
        if count["rotate"]:
            return self._turning(count)
        if self._is_over(plan, count):
            return STOP
        if arrived and len(angles) > 2 and count["turns"] < len(plan.turns):
            chosen = self._street(plan.turns[count["turns"]], count["junctions"], angles + snapped)
            if chosen is not None:
                side = plan.turns[count["turns"]][1]
                count["turns"] += 1
                count["junctions"] = count["walked"] = 0
                return (LEFT if side < 0 else RIGHT) if self._velma else self._rotate(count, angles, angles[chosen])
        return self._forward(count, angles)

    @staticmethod
    def _arrive(count: dict[str, int], junction: bool) -> None:
        count["visited"] += 1
        count["walked"] += 1
        if junction:
            count["junctions"] += 1
            count["walked"] = 0

    @staticmethod
    def _is_over(plan: Plan, count: dict[str, int]) -> bool:
        if count["turns"] < len(plan.turns):
            return count["visited"] >= ENOUGH + 10
        if plan.junctions is not None and count["junctions"] >= plan.junctions:
            return True
        if plan.steps is not None and count["junctions"] >= plan.passed and count["walked"] >= plan.steps:
            return True
        unclear = plan.junctions is None and plan.steps is None
        return count["visited"] >= (ENOUGH if unclear else ENOUGH + 6)

    @staticmethod
    def _street(turn: tuple[int, int], junctions: int, angles: np.ndarray) -> int | None:
        """Return the number of the street that a turn means at the junction just reached, None if not here.

        Args:
            turn: junction number and side.
            junctions: junctions reached since the last turn.
            angles: (k,) degrees from the direction of arrival.
        """
        number, side = turn
        angles = (angles + 180.0) % 360.0 - 180.0
        ahead = bool((np.abs(angles) < STRAIGHT).any())
        if (number == END and ahead) or (number != END and junctions < number):
            return None
        fits = side * angles > TURN
        fits[np.argmax(np.abs(angles))] = False
        return int(np.argmin(np.where(fits, np.abs(angles - 90.0 * side), np.inf))) if fits.any() else None

    def _rotate(self, count: dict[str, int], angles: np.ndarray, target: float) -> int:
        """Begin the rotations that lead to the street at ``target`` degrees, and return the first of them."""
        passed = angles[(angles * np.sign(target) > 0) & (np.abs(angles) <= abs(target) + 1e-3)]
        count["rotate"] = int(np.sign(target)) * len(passed)
        return self._turning(count) if count["rotate"] else self._forward(count, angles)

    @staticmethod
    def _turning(count: dict[str, int]) -> int:
        side = 1 if count["rotate"] > 0 else -1
        count["rotate"] -= side
        return RIGHT if side > 0 else LEFT

    def _forward(self, count: dict[str, int], angles: np.ndarray) -> int:
        # Without a street straight ahead the first forward of the touchdown rules only snaps the heading.
        count["moved"] = int(self._velma or bool((np.abs(angles) < 0.5).any()))
        return FORWARD
