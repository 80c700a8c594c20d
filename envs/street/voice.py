"""A person's voice in street instructions: words for the same thing, counting, scenery that nobody can check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embodied_mem.envs.street.course import Junction, Leg, find_legs
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.envs.street.landmarks import NAMES, Landmarks, view_of

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
SHORT_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th")
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
NOUNS = {
    "map2seq": ("light",) * 5 + ("intersection",) * 3 + ("traffic light", "set of lights", "stoplight", "corner"),
    "touchdown": ("intersection",) * 6 + ("light", "traffic light", "corner", "stop light", "cross street"),
}
GO = (
    "go",
    "head",
    "walk",
    "continue",
    "proceed",
    "go straight",
    "keep going",
    "move forward",
    "head straight",
    "travel",
)
TURNS = ("turn {s}", "make a {s}", "take a {s}", "turn {s}", "go {s}", "hang a {s}", "take the {s}", "make a {s} turn")
THROUGH = ("through", "past", "through", "by", "across")
COLOURS = ("red", "blue", "green", "white", "brown", "grey", "yellow", "orange", "black", "purple")
THINGS = (
    "awning", "scaffolding", "brick building", "fire escape", "storefront", "banner", "dumpster", "fence", "van",
    "painted wall", "door", "newspaper stand", "phone booth", "flag", "planter", "gate", "mural", "truck", "hydrant",
    "parking garage", "bus stop", "street sign", "stop sign", "tree", "row of bikes", "construction barrier", "bench",
)  # fmt: skip
NAMED = (
    "Halloran",
    "Vesta",
    "Birkby",
    "Ostrander",
    "Tamsin",
    "Quill",
    "Marlow",
    "Pellegrin",
    "Adair",
    "Lumen",
    "Corvo",
)
KINDS = (
    "Coffee", "Bank", "Diner", "Pharmacy", "Pizza", "Market", "Hotel", "Deli", "Bar", "Theater", "School", "Bakery",
    "Street Books", "Corner Cafe", "& Sons", "Park", "Gym", "Grill", "Church", "Bike Rental", "Restaurant",
)  # fmt: skip
SIDES = {-1: "left", 1: "right"}
STYLE_RATES = {"map2seq": (0.3, 0.12), "touchdown": (0.6, 0.16)}
"""Style -> how often scenery is told of, and how often a turn is described without counting."""


class Voice:
    """Words for one route; what a person keeps (words for junctions, taste for counting) is drawn once.

    Attributes:
        legs: the legs of the route, as far as the person notices its junctions.
    """

    def __init__(
        self, graph: StreetGraph, layer: Landmarks, route: np.ndarray, style: str, draw: np.random.Generator
    ) -> None:
        """Draw the voice for a route (L,) on ``graph`` with landmarks ``layer``."""
        self.graph, self.layer, self.route, self.style = graph, layer, route, style
        self.draw = draw
        self.noun = self.pick(NOUNS[style])
        self.second_noun = self.pick(NOUNS[style]) if self.chance(0.3) else self.noun
        self.ordinals = SHORT_ORDINALS if self.chance(0.3) else ORDINALS
        self.counts = tuple(str(k + 1) for k in range(8)) if self.chance(0.25) else COUNTS
        self.scenery_rate, self.vague_rate = STYLE_RATES[style]
        self.apart = self.chance(0.25)
        self.legs = [self._noticed(leg) for leg in find_legs(graph, route)]

    def pick(self, items: Sequence[str]) -> str:
        """Return one of some words."""
        return items[int(self.draw.random() * len(items))]

    def chance(self, rate: float) -> bool:
        """Return True at a rate."""
        return bool(self.draw.random() < rate)

    def _noticed(self, leg: Leg) -> Leg:
        """Leave out passed junctions that a person would not count: side streets, the other half of a double one."""
        kept: list[Junction] = []
        for junction in leg.passed:
            through = junction.left and junction.right
            near = bool(kept) and junction.place - kept[-1].place <= 2
            if near and self.chance(0.6):
                continue
            if self.chance(0.03 if through else 0.15):
                continue
            kept.append(junction)
        return Leg(leg.begin, tuple(kept), leg.turn)

    def number(self, count: int) -> str:
        """Return a count in words or digits."""
        return self.counts[count - 1] if count <= len(COUNTS) else str(count)

    def ordinal(self, count: int) -> str:
        """Return "second" or "2nd"."""
        return self.ordinals[count - 1] if count <= len(ORDINALS) else f"{count}th"

    def junction(self) -> str:
        """Return the word for a junction."""
        return self.noun if self.chance(0.75) else self.second_noun

    def some(self, count: int) -> str:
        """Return ``count`` junctions in words: "one light", "2 sets of lights"."""
        noun = self.junction()
        if count == 1:
            return f"{self.number(1)} {noun}"
        if count == 2 and self.chance(0.08):
            return f"{self.pick(('both', 'a couple of'))} {_plural(noun)}"
        return f"{self.number(count)} {self.pick(('', '', '', 'more '))}{_plural(noun)}"

    def next_ones(self, count: int, which: str) -> str:
        """Return the next ``count`` junctions in words: "the next light", "the next two lights"."""
        return f"the {which}{self.junction() if count == 1 else self.some(count)}"

    def thing(self) -> str:
        """Return something that stands somewhere, in words."""
        drawn = self.draw.random()
        if self.style == "map2seq":
            return f"{self.pick(NAMED)} {self.pick(KINDS)}" if drawn < 0.7 else self.pick(NAMES)
        if drawn < 0.15:
            return f"{self.pick(NAMED)} {self.pick(KINDS)}"
        if drawn >= 0.7:
            return self.pick(NAMES)
        colour = self.pick(COLOURS)
        return f"{'an' if colour[0] == 'o' else 'a'} {colour} {self.pick(THINGS)}"

    def landmark(self, place: int) -> str:
        """Return a landmark of the layer that shows at a place of the route, else anything."""
        if place > 0:
            arriving = self.graph.link_heading(int(self.route[place - 1]), int(self.route[place]))
            for name, bearing, _ in self.layer.seen(int(self.route[place])):
                if view_of(bearing, arriving) is not None:
                    return NAMES[name]
        return self.thing()

    def side(self) -> str:
        """Return a side at which something is, without a meaning."""
        return self.pick(
            ("on your left", "on your right", "on the left", "on the right", "to your right", "to your left")
        )

    def corner(self, place: int) -> str:
        """Return what stands at the corner of a junction of the route, or nothing."""
        if not self.chance(0.35):
            return ""
        near = self.pick(("", "near ", "far ", "left ", "right ", "near left ", "far right ", "near right "))
        how = self.pick(
            ("with {x} on the {c}corner", "with {x} on your {c}corner", "by {x}", "with {x}", "where {x} is")
        )
        return f" {how}".format(x=self.landmark(place), c=near)

    def passing(self) -> str:
        """Return what is passed on the way, or nothing."""
        if not self.chance(self.scenery_rate * 0.7):
            return ""
        return self.pick((", passing {x} {s}", " past {x}", ", with {x} {s}", ", and pass {x} {s}")).format(
            x=self.thing(), s=self.side()
        )

    def scenery(self) -> str:
        """Return a sentence about what is to be seen."""
        text = self.pick(
            (
                "You should see {x} {s}", "You'll pass {x} {s}", "{x} will be {s}", "There will be {x} {s}",
                "Pass {x} {s}", "You will see {x} {s} and {y} across from it", "{x} should be {s}", "Walk past {x}",
                "Keep {x} {s}", "There is {x} {s}", "{s} will be {x}", "{s} there is {x} next to {y}",
                "You'll be going by {x} {s}", "{x} is {s} and {y} is {t}",
            )
        )  # fmt: skip
        return text.format(x=self.thing(), y=self.thing(), s=self.side(), t=self.side())

    def one_by_one(self, leg: Leg) -> list[str]:
        """Return one sentence per junction that is passed."""
        found = []
        for number, junction in enumerate(leg.passed):
            which = (
                self.pick(("first ", "", ""))
                if number == 0 and leg.begin == 0
                else self.pick(("next ", "next ", "", "following "))
            )
            found.append(
                f"{self.pick(GO)} {self.pick(THROUGH)} the {which}{self.junction()}{self.corner(junction.place)}"
            )
        return found


def _plural(noun: str) -> str:
    """Return the plural: lights, sets of lights.

    >>> _plural("set of lights"), _plural("traffic light")
    ('sets of lights', 'traffic lights')
    """
    head, of, rest = noun.partition(" of ")
    return f"{head}s{of}{rest}"
