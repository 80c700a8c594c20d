"""Where to stop, in words: at a junction, just before or after one, in a part of a block, at a landmark."""

from __future__ import annotations

from embodied_mem.envs.street.course import Leg, junction_ahead
from embodied_mem.envs.street.voice import COUNTS, GO, THROUGH, Voice


def to_goal(voice: Voice, leg: Leg) -> list[str]:
    """Return the sentences from the last turn to the goal."""
    route, graph = voice.route, voice.graph
    goal, last = int(route[-1]), len(route) - 1
    count = len(leg.passed)
    before = leg.passed[-1].place if leg.passed else leg.begin
    turned = len(voice.legs) > 1 and not leg.passed
    walked = last - before
    at_junction = graph.out_degree[goal] > 2
    ahead = None if at_junction else junction_ahead(graph, int(route[-2]), goal)
    noun = voice.junction()
    lead: list[str] = []
    if count and not (at_junction and voice.chance(0.4)):
        if voice.apart and count <= 3:
            lead = voice.one_by_one(leg)
        else:
            through = (
                voice.some(count) if voice.chance(0.3) else voice.next_ones(count, voice.pick(("next ", "next ", "")))
            )
            lead = [f"{voice.pick(GO)} {voice.pick(THROUGH)} {through}{voice.passing()}"]
        which = voice.pick(("next ", "next ", "following "))
    else:
        which = f"{voice.ordinal(count + 1)} " if count else voice.pick(("next ", "next ", "", "first "))
    if voice.chance(voice.scenery_rate * 0.5):
        lead.append(voice.scenery())
    junction_known = bool(count) or len(voice.legs) > 1
    if at_junction:
        stop = _stop_at(voice, which, noun)
    elif walked <= 3 and junction_known and voice.chance(0.7):
        stop = _stop_after(voice, walked, turned, noun)
    elif ahead is not None and ahead <= 3 and voice.chance(0.7):
        stop = _stop_before(voice, ahead, which, noun)
    elif ahead is not None and junction_known and voice.chance(0.35):
        stop = _stop_between(voice, walked / (walked + ahead))
    else:
        stop = _stop_landmark(voice, last)
    found = [*lead, *stop]
    if voice.chance(0.3):
        found.append(voice.scenery())
    if voice.chance(0.1):
        what = voice.thing() if at_junction or voice.chance(0.7) else f"the next {noun}"
        found.append(
            voice.pick(("If you reach {x}, you've gone too far", "If you get to {x} you have gone too far")).format(
                x=what
            )
        )
    return found


def _stop_at(voice: Voice, which: str, noun: str) -> list[str]:
    corner = voice.corner(len(voice.route) - 1)
    forms = (
        [f"stop {voice.pick(('at', 'in the middle of', 'in', 'in the center of'))} the {which}{noun}{corner}"],
        [f"{voice.pick(GO)} to the {which}{noun}{corner} and stop"],
        [f"at the {which}{noun}, stop{corner}"],
        [f"{voice.pick(GO)} to the {which}{noun}", f"stop {voice.pick(('there', 'in the intersection', 'here'))}"],
        [f"stop when you reach the {which}{noun}{corner}"],
        [f"stop at the end of the {voice.pick(('block', 'street'))}"],
    )
    return list(forms[int(voice.draw.random() * len(forms))])


def _stop_after(voice: Voice, walked: int, turned: bool, noun: str) -> list[str]:
    what = (
        voice.pick(("the turn", "turning", "you turn", "making the turn"))
        if turned
        else voice.pick((f"the {noun}", "the light", "it"))
    )
    past = "after" if turned else voice.pick(("after", "past"))
    if walked <= 1:
        forms = (
            f"stop {voice.pick(('right', 'immediately', 'just'))} {past} {what}",
            "and stop",
            f"stop one step {past} {what}",
            f"take a step and stop next to {voice.thing()}",
            f"stop as soon as you are {past} {what}",
        )
    else:
        steps = voice.pick(("a few", "a couple of", COUNTS[walked - 1], str(walked)))
        forms = (
            f"stop {steps} steps {past} {what}",
            f"go {steps} steps and stop",
            f"stop {voice.pick(('shortly', 'just', 'soon'))} {past} {what}, by {voice.thing()}",
            f"go a few steps and stop {voice.pick(('by', 'in front of', 'at'))} {voice.thing()} {voice.side()}",
            f"stop {voice.pick(('right', 'just', 'soon'))} {past} {what}",
        )
    return [voice.pick(forms)]


def _stop_before(voice: Voice, ahead: int, which: str, noun: str) -> list[str]:
    if ahead <= 1:
        forms = (
            f"stop {voice.pick(('right', 'just', 'immediately', 'one step'))} before the {which}{noun}",
            f"{voice.pick(GO)} almost to the {which}{noun} and stop",
            f"{voice.pick(GO)} to the end of the block and stop just before the {noun}",
            f"stop just before entering the {noun}",
            f"stop a step before you reach the {which}{noun}",
        )
    else:
        steps = voice.pick(("a few", "a couple of", COUNTS[ahead - 1], str(ahead)))
        forms = (
            f"stop {steps} steps before the {which}{noun}",
            f"{voice.pick(GO)} almost all the way to the {which}{noun} and stop by {voice.thing()}",
            f"stop near the end of the block, at {voice.thing()} {voice.side()}",
            f"stop {voice.pick(('just', 'shortly', 'right'))} before the {which}{noun}, in front of {voice.thing()}",
            f"go most of the way down the block and stop {steps} steps before the {noun}",
        )
    return [voice.pick(forms)]


def _stop_between(voice: Voice, share: float) -> list[str]:
    if share < 0.3:
        part = voice.pick(
            ("1/4 of the way down the block", "about a quarter of the block", "a little way down the block")
        )
    elif share < 0.42:
        part = voice.pick(("1/3 of the way down the block", "about a third of the block", "1/3 block"))
    elif share < 0.6:
        part = voice.pick(
            ("halfway down the block", "about half way down the block", "1/2 block", "to the middle of the block")
        )
    elif share < 0.72:
        part = voice.pick(("2/3 of the way down the block", "about two thirds of the block", "2/3 block"))
    else:
        part = voice.pick(
            ("3/4 of the way down the block", "most of the way down the block", "almost all the way down the block")
        )
    end = voice.pick(
        ("", f" in front of {voice.thing()}", f" at {voice.thing()} {voice.side()}", f" by {voice.thing()}")
    )
    return [f"{voice.pick(('go', 'continue', 'head', 'walk'))} {part} and stop{end}"]


def _stop_landmark(voice: Voice, last: int) -> list[str]:
    x, side = voice.landmark(last), voice.side()
    forms = [
        f"stop in front of {x} {side}", f"stop at {x}", f"stop when {x} is {side}", f"stop next to {x} {side}",
        f"continue and stop at {x} {side}", f"stop when you reach {x}", f"stop just past {x} {side}",
        f"stop right before {x} {side}", f"{voice.pick(GO)} down the block and stop by {x}",
        f"stop after you pass {x} {side}",
        f"pass {voice.thing()} and stop at {x}", f"stop between {x} and {voice.thing()}", f"stop right after {x}",
    ]  # fmt: skip
    if voice.style == "touchdown":
        forms += [
            f"{x} will be {side}",
            f"keep going until you see {x} {side}",
            f"{voice.pick(GO)} until {x} is {side}",
        ]
    return [voice.pick(forms)]
