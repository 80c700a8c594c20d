"""What an agent on the street would say it sees and may do, in words: for language models and for reading."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.envs.street.landmarks import NAMES, VIEWS, Landmarks, view_of

PHRASES = {
    "forward": "go forward",
    "left": "turn left",
    "right": "turn right",
    "turn_around": "turn around",
    "stop": "stop here",
}


def verbalise(
    graph: StreetGraph,
    landmarks: Landmarks | None,
    pano: int,
    heading: int,
    arrived: bool,
    actions: tuple[str, ...],
) -> str:
    """Return the observation as sentences: an intersection on arrival, landmarks by view, numbered actions.

    Args:
        graph: the graph.
        landmarks: the layer, or None.
        pano: where the agent stands.
        heading: degrees.
        arrived: the last action brought it here.
        actions: names of the actions it may choose from.
    """
    parts = []
    degree = int(graph.out_degree[pano])
    if arrived and degree > 2:
        parts.append(f"You reach an intersection of {degree} streets.")
    for name, bearing, _ in [] if landmarks is None else landmarks.seen(pano):
        view = view_of(bearing, heading)
        if view is not None:
            parts.append(f"There is {NAMES[name]} {VIEWS[view]}.")
    choices = ", ".join(f"{number} {PHRASES[name]}" for number, name in enumerate(actions))
    return " ".join([*parts, f"Actions: {choices}."])


def longest(landmarks: Landmarks | None, actions: tuple[str, ...]) -> int:
    """Return an upper bound of the bytes of a text of `verbalise`."""
    most = 0 if landmarks is None else int(np.diff(landmarks.first).max(initial=0))
    name = max(len(item.encode()) for item in NAMES) + max(len(item) for item in VIEWS) + len("There is  . ")
    return 64 + most * name + sum(len(PHRASES[item]) + 5 for item in actions) + len("Actions: .")
