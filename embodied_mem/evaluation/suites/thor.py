"""``thor-object-nav``, ``thor-point-nav``, ``thor-rearrange``: AI2-THOR with its own player, or with the stand-in.

Numbers played on the stand-in (``--player standin``) say that code works; they are not results on AI2-THOR.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Option, Suite, Task
from embodied_mem.registry import register

SENSING = ("sensors", "width", "height", "fov")
PLAYER = Option("--player", "player", str, "unity (default, the downloaded build), standin (ours) or a command line.")
BACKEND = Option("--backend", "backend", str, "local (default) or ray: one actor per row.")
SPLITS = {name: {"split": name} for name in ("train", "val", "test")}
CONTROLS = ("none", "wiped:20", "oracle")
OBJECTS = "AI2-THOR: find an object of a named type; Done counts with it visible within 1.0 m"
POINTS = "AI2-THOR: go to a point; Done counts within 0.2 m"
ROOMS = "AI2-THOR: two-phase rearrangement, each of the 1,000 validation tasks once"


def _navigation(name: str, env: str, about: str, radius: float) -> Suite:
    task = Task(env, "goal_nav", splits=SPLITS, agent_options=SENSING, success_distance=radius)
    houses = Option("--procthor", "procthor", str, "File of ProcTHOR houses to play in instead of iTHOR's rooms.")
    return Suite(name, about, (task,), episodes=200, controls=CONTROLS, num_envs=4, options=(PLAYER, BACKEND, houses))


@register("suite", "thor-object-nav", about=OBJECTS)
def thor_object_nav() -> Suite:
    """Return the ObjectNav suite."""
    return _navigation("thor-object-nav", "embodied_mem/Thor-ObjectNav-v0", OBJECTS, 1.0)


@register("suite", "thor-point-nav", about=POINTS)
def thor_point_nav() -> Suite:
    """Return the PointNav suite."""
    return _navigation("thor-point-nav", "embodied_mem/Thor-PointNav-v0", POINTS, 0.2)


@register("suite", "thor-rearrange", about=ROOMS)
def thor_rearrange() -> Suite:
    """Return the rearrangement suite."""
    env = "embodied_mem/Thor-Rearrange-v0"
    task = Task(env, "rearrange", kwargs={"order": "listed"}, splits={"val": {}}, agent_options=SENSING)
    tasks = Option("--tasks", "tasks", str, "Your own file of tasks instead of the published one.")
    options = (PLAYER, BACKEND, tasks)
    return Suite(
        "thor-rearrange",
        ROOMS,
        (task,),
        episodes=None,
        controls=("none", "wiped:20"),
        split="val",
        num_envs=4,
        options=options,
    )
