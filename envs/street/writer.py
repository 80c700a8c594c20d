"""Synthetic episodes: shortest paths through one part of a graph, and template texts over their decisions.

Routes follow published statistics: "map2seq" 35 to 45 panoramas, "touchdown" 10 to 60 (with a first heading to the
north, as its data have). A decision is taken at every panorama of more than two links: with the signed angle between
the link one arrives on and the link one takes, more than 25 degrees is right, less than -25 left, else straight on.
The text names turns (at the k-th junction or as the next one), how many junctions are passed straight, landmarks of
the synthetic layer at turns and at the goal, and where to stop. Nothing is copied from human instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.street.course import stroll
from embodied_mem.envs.street.episodes import Episodes, make_episodes
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.envs.street.landmarks import NAMES, Landmarks, place_landmarks, view_of
from embodied_mem.errors import UsageError

STYLES = ("touchdown", "map2seq")
LANGUAGES = ("plain", "varied")
LENGTHS = {"touchdown": (10, 60), "map2seq": (35, 45)}
"""Panoramas of a route, both ends included."""
TURN = 25
"""Degrees beyond which a junction is turned at."""
_STREAM = 73
_TRIES = 200

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
JUNCTIONS = ("light", "intersection", "traffic light", "corner")
OPENINGS = ("Head forward", "Go straight", "Start walking", "Move forward", "Follow the traffic")
PASSES = ("go straight through the next {n}", "pass {n}", "continue through {n}", "walk past {n}")
TURNS = ("turn {side}", "make a {side}", "take a {side}", "go {side}", "hang a {side}")
STOPS_AT = ("Stop in front of {name}.", "Stop at {name}.", "Stop when {name} is {view}.", "Stop next to {name}.")


@dataclass(frozen=True)
class Decision:
    """What to do at a junction of a route."""

    place: int
    """Index of the junction on the route."""
    turn: int
    """-1 left, 0 straight on, 1 right."""


def decisions(graph: StreetGraph, route: Sequence[int] | np.ndarray) -> list[Decision]:
    """Return the decisions of a route (L,): one per panorama of more than two links between its ends."""
    found = []
    for place in range(1, len(route) - 1):
        before, here, after = int(route[place - 1]), int(route[place]), int(route[place + 1])
        if graph.out_degree[here] > 2:
            angle = (graph.link_heading(here, after) - graph.link_heading(before, here) + 180) % 360 - 180
            found.append(Decision(place, 1 if angle > TURN else -1 if angle < -TURN else 0))
    return found


def write_episodes(
    graph: StreetGraph, split: str, style: str, items: int, seed: int, language: str = "plain"
) -> Episodes:
    """Return ``items`` synthetic episodes.

    Args:
        graph: the graph.
        split: "train" keeps to the seen area, "test" to the unseen one.
        style: "touchdown" or "map2seq".
        items: how many, >= 1.
        seed: of routes, texts and landmarks.
        language: "plain": a few templates; "varied": see `phrasing`, and most routes of the style "touchdown" are
            strolls instead of shortest ways.

    Raises:
        UsageError: the area holds no route of the length.
    """
    if language == "varied":
        from embodied_mem.envs.street.phrasing import say

        ways, starts_at, known, voice = draw_routes(graph, split, style, items, seed)
        told = [say(graph, known, way, heading, style, voice) for way, heading in zip(ways, starts_at)]
        return make_episodes([f"{split}-{k}" for k in range(items)], told, ways, starts_at)
    from embodied_mem.envs.street import _route_kernels

    allowed = ~graph.unseen if split == "train" else graph.unseen
    starts = np.flatnonzero(allowed & (graph.out_degree >= 2))
    low, high = LENGTHS[style]
    layer = place_landmarks(graph, seed)
    key = rng.episode_keys(rng.seed_keys(np.array([seed], np.uint64)), np.array([int(split == "test")]))[0]
    draw = rng.generator(key, _STREAM)
    routes: list[np.ndarray] = []
    texts, headings = [], []
    for _ in range(items * _TRIES):
        if len(routes) == items or len(starts) == 0:
            break
        start, hops = int(draw.choice(starts)), int(draw.integers(low, high + 1)) - 1
        route = _route_kernels.route_of_length(graph.arrays, allowed, start, hops, float(draw.uniform()))
        if len(route) != hops + 1 or graph.out_degree[route[-1]] < 2:
            continue
        heading = 0 if style == "touchdown" else graph.link_heading(int(route[0]), int(route[1]))
        routes.append(route)
        headings.append(heading)
        texts.append(write_text(graph, layer, route, heading, draw))
    if len(routes) < items:
        raise UsageError(f"found {len(routes)} of {items} routes of {low} to {high} panoramas in the {split} area")
    return make_episodes([f"{split}-{k}" for k in range(items)], texts, routes, headings)


def draw_routes(
    graph: StreetGraph, split: str, style: str, items: int, seed: int
) -> tuple[list[np.ndarray], list[int], Landmarks, np.random.Generator]:
    """Return routes and first headings of varied episodes, the landmark layer, and the generator for their texts.

    "touchdown" routes are like annotated ones: about 34 panoramas long (6 to 60), with more turns than a shortest way
    has, and most begin with the traffic.

    Raises:
        UsageError: the area holds too few routes.
    """
    from embodied_mem.envs.street import _route_kernels

    allowed = ~graph.unseen if split == "train" else graph.unseen
    starts = np.flatnonzero(allowed & (graph.out_degree >= 2))
    low, high = LENGTHS[style]
    key = rng.episode_keys(rng.seed_keys(np.array([seed], np.uint64)), np.array([2 + int(split == "test")]))[0]
    draw = rng.generator(key, _STREAM)
    routes: list[np.ndarray] = []
    headings = []
    for _ in range(items * _TRIES):
        if len(routes) == items or len(starts) == 0:
            break
        if style == "map2seq":
            hops = int(draw.integers(low, high + 1)) - 1
        else:
            hops = int(np.clip(round(draw.normal(34.0, 9.0)), 6, high)) - 1
        if style == "touchdown" and draw.random() < 0.7:
            route = stroll(graph, allowed, hops, draw)
        else:
            route = _route_kernels.route_of_length(
                graph.arrays, allowed, int(draw.choice(starts)), hops, float(draw.uniform())
            )
        if route is None or len(route) != hops + 1 or graph.out_degree[route[-1]] < 2:
            continue
        if style == "touchdown" and _against(graph, route) and draw.random() > 0.2:
            continue
        routes.append(route)
        headings.append(0 if style == "touchdown" else graph.link_heading(int(route[0]), int(route[1])))
    if len(routes) < items:
        raise UsageError(f"found {len(routes)} of {items} routes of {low} to {high} panoramas in the {split} area")
    return routes, headings, place_landmarks(graph, seed), draw


def _against(graph: StreetGraph, route: np.ndarray) -> bool:
    """Return whether a route sets out against the heading of the car that took its first panorama."""
    first = graph.link_heading(int(route[0]), int(route[1]))
    return abs((first - int(graph.yaw[int(route[0])]) + 180) % 360 - 180) > 90


def write_text(graph: StreetGraph, layer: Landmarks, route: np.ndarray, heading: int, draw: np.random.Generator) -> str:
    """Return an instruction for a route (L,) that begins with a heading in degrees."""
    word = str(draw.choice(JUNCTIONS))
    parts = [_opening(graph, route, heading, draw)]
    passed, last = 0, 0
    for decision in decisions(graph, route):
        if decision.turn == 0:
            passed += 1
            continue
        parts.append(_turn(graph, layer, route, decision, passed, word, draw))
        passed, last = 0, decision.place
    parts.append(_ending(graph, layer, route, last, passed, word, draw))
    return " ".join(parts)


def _opening(graph: StreetGraph, route: np.ndarray, heading: int, draw: np.random.Generator) -> str:
    angle = (graph.link_heading(int(route[0]), int(route[1])) - heading + 180) % 360 - 180
    if abs(angle) <= TURN:
        return f"{draw.choice(OPENINGS)}."
    if abs(angle) > 135:
        return f"Turn around and {str(draw.choice(OPENINGS)).lower()}."
    side = "right" if angle > 0 else "left"
    return f"Turn {side} to face the street and {str(draw.choice(OPENINGS)).lower()}."


def _turn(
    graph: StreetGraph,
    layer: Landmarks,
    route: np.ndarray,
    decision: Decision,
    passed: int,
    word: str,
    draw: np.random.Generator,
) -> str:
    side = "right" if decision.turn > 0 else "left"
    turn = str(draw.choice(TURNS)).format(side=side)
    corner = ""
    if draw.uniform() < 0.5:
        here = int(route[decision.place])
        arriving = graph.link_heading(int(route[decision.place - 1]), here)
        corner = _corner(layer, here, arriving)
    if passed == 0:
        return f"At the {draw.choice(('next', 'first'))} {word}{corner} {turn}."
    if passed < len(ORDINALS) and draw.uniform() < 0.5:
        return f"At the {ORDINALS[passed]} {word}{corner} {turn}."
    through = _through(passed, word, draw)
    return f"{through[0].upper()}{through[1:]}. Then {turn} at the {draw.choice(('next', 'following'))} {word}{corner}."


def _corner(layer: Landmarks, here: int, heading: int) -> str:
    for name, bearing, _ in layer.seen(here):
        view = view_of(bearing, heading)
        if view is not None:
            far = "" if view == 2 else (" on the left" if view < 2 else " on the right")
            return f" with {NAMES[name]}{far}"
    return ""


def _through(passed: int, word: str, draw: np.random.Generator) -> str:
    number = COUNTS[passed - 1] if passed <= len(COUNTS) else str(passed)
    noun = f"{number} {word}" if passed == 1 else f"{number} {word}s"
    return str(draw.choice(PASSES)).format(n=noun)


def _ending(
    graph: StreetGraph,
    layer: Landmarks,
    route: np.ndarray,
    last: int,
    passed: int,
    word: str,
    draw: np.random.Generator,
) -> str:
    goal, before = int(route[-1]), int(route[-2])
    heading = graph.link_heading(before, goal)
    lead = f"{_through(passed, word, draw)}. " if passed else ""
    lead = lead[:1].upper() + lead[1:]
    junctions = [decision.place for decision in decisions(graph, route)]
    walked = len(route) - 1 - (junctions[-1] if junctions else 0)
    if graph.out_degree[goal] > 2:
        return f"{lead}Stop at the next {word}."
    if junctions and walked <= 3:
        after = "the turn" if junctions[-1] == last else f"the {word}"
        steps = "a step" if walked == 1 else f"{COUNTS[walked - 1]} steps"
        return f"{lead}Stop {steps} after {after}."
    for name, bearing, _ in layer.seen(goal):
        view = view_of(bearing, heading)
        if view is not None:
            where = ("on your left", "on your left", "ahead", "on your right", "on your right")[view]
            return lead + str(draw.choice(STOPS_AT)).format(name=NAMES[name], view=where)
    ahead = _junction_ahead(graph, before, goal)
    if ahead is not None and ahead <= 3:
        return f"{lead}Stop right before the next {word}."
    return f"{lead}Walk {walked} steps and stop in the middle of the block."


def _junction_ahead(graph: StreetGraph, before: int, here: int) -> int | None:
    """Return how many links straight on the next junction lies, None at a dead end or after ten."""
    arrays = graph.arrays
    for steps in range(1, 11):
        start, stop = arrays.first[here], arrays.first[here + 1]
        onward = [int(there) for there in arrays.target[start:stop] if there != before]
        if not onward:
            return None
        before, here = here, onward[0]
        if graph.out_degree[here] > 2:
            return steps
    return None
