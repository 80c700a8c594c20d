"""``language="varied"``: instructions in the many ways in which people say the same route, to learn from.

A text is built from the legs of a route (`course`): what is passed, where to turn, where to stop. Every piece is drawn
from several constructions (k-th junction, counted passes, one sentence per pass, the end of a street, a landmark alone)
and from words for the same thing; scenery that nobody can check without pictures stands in between, as people put it.
Where a person would be vague, the text is vague: then only the usual length of a route tells where to stop.

The constructions were chosen with an eye on how the dev instructions of both data sets are built; sentences are our own
and nothing of the data is in here.
"""

from __future__ import annotations

import numpy as np

from embodied_mem.envs.street.course import Junction, Leg
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.envs.street.landmarks import Landmarks
from embodied_mem.envs.street.stopping import to_goal
from embodied_mem.envs.street.voice import GO, SIDES, THROUGH, TURNS, Voice


class Writer(Voice):
    """Writes one instruction."""

    def write(self, heading: int) -> str:
        """Return the instruction for an episode that begins with a heading in degrees."""
        parts = self._opening(heading)
        for number, leg in enumerate(self.legs[:-1]):
            parts += self._to_turn(leg, number)
            parts += [self.scenery() for _ in range(2) if self.chance(self.scenery_rate)]
        parts += to_goal(self, self.legs[-1])
        return " ".join(_sentence(part) for part in parts)

    def _opening(self, heading: int) -> list[str]:
        first = self.graph.link_heading(int(self.route[0]), int(self.route[1]))
        away = (first - heading + 180) % 360 - 180
        if self.style == "map2seq":
            if abs(away) > 135:
                return [self.pick(("Turn around", "Turn around and go straight"))]
            return (
                [self.pick(("Go straight", "Head straight", "Start walking", "Go forward"))] if self.chance(0.1) else []
            )
        flow = (first - int(self.graph.yaw[int(self.route[0])]) + 180) % 360 - 180
        along = abs(flow) < 60
        if self.chance(0.45 if along else 0.3):
            return [self._with_traffic() if self.chance(0.97 if along else 0.25) else self._against_traffic()]
        if self.chance(0.2):
            return []
        turn = self.pick(
            ("Orient yourself", "Turn", "Position yourself", "Face", "Align yourself", "Rotate", "Turn around")
        )
        text = self.pick(("{t} so {x} is {s}", "{t} so that {x} is {s} and {y} is {u}", "{t} so you are facing {x}"))
        if turn == "Face":
            text = self.pick(("Face {x}", "Face so {x} is {s}", "Face the direction with {x} {s}"))
        return [text.format(t=turn, x=self.thing(), y=self.thing(), s=self.side(), u=self.side())]

    def _with_traffic(self) -> str:
        text = self.pick(
            (
                "{o} so you are moving with the flow of traffic", "{o} with traffic", "Go with the flow of traffic",
                "Follow the flow of traffic", "{o} so that you are going in the same direction as traffic",
                "Turn to go with the traffic", "Head in the direction of traffic",
                "{o} in the direction the cars are going",
            )
        )  # fmt: skip
        return text.format(
            o=self.pick(("Orient yourself", "Turn", "Align yourself", "Turn yourself", "Position yourself"))
        )

    def _against_traffic(self) -> str:
        return self.pick(
            (
                "Go against the flow of traffic", "Turn so you are going against traffic", "Face oncoming traffic",
                "Orient yourself against the flow of traffic", "Head in the opposite direction of traffic",
            )
        )  # fmt: skip

    def _to_turn(self, leg: Leg, number: int) -> list[str]:
        """Return the sentences that lead to the turn of a leg and round it."""
        junction = leg.turn
        assert junction is not None
        turn = self.pick(TURNS).format(s=SIDES[junction.turn])
        noun, corner = self.junction(), self.corner(junction.place)
        go = self.pick(GO)
        if not junction.straight and self.chance(0.3):
            return self._street_ends(leg, turn, go)
        if self.chance(self.vague_rate):
            return self._vague_turn(junction, turn, noun, go)
        count = len(leg.passed)
        if count == 0:
            return self._turn_at_once(leg, turn, noun, corner, go, number)
        if self.apart and count <= 3:
            return [*self.one_by_one(leg), *self._turn_at_once(leg, turn, noun, corner, go, number)]
        opened = 1 + sum(item.opens(junction.turn) for item in leg.passed)
        if self.chance(0.08):
            return [f"take the {self.ordinal(opened)} {SIDES[junction.turn]}{corner}"]
        o, p, through = self.ordinal(count + 1), self.some(count), self.pick(THROUGH)
        then = self.pick(("next", "next", "following", self.ordinal(count + 1)))
        passing = self.passing()
        forms = [
            [f"{go} {through} {self.next_ones(count, 'next ')}{passing}", f"{turn} at the {then} {noun}{corner}"],
            [f"{go} {through} {p}{passing} and {turn} at the {then} {self.pick(('one', noun))}"],
            [f"{go} {through} {p}{passing}", f"at the {then} {noun}{corner}, {turn}"],
            [f"{go} to the {o} {noun}{corner} and {turn}"],
            [f"at the {o} {noun}{corner}, {turn}"],
            [f"{go} until you reach the {o} {noun}{corner}", turn],
            [f"{turn} at the {o} {noun}{corner}"],
            [f"pass {p}{passing}, then {turn} at the {then} {noun}{corner}"],
            [
                f"{go} {through} {self.next_ones(count, self.pick(('first ', 'next ', '')))}{passing}",
                f"{turn} at the {noun} after that",
            ],
        ]
        if count == 1:
            forms += [
                [
                    f"{go} {through} the {self.pick(('', 'first ', 'next '))}{noun}{passing}",
                    f"at the next {noun}{corner}, {turn}",
                ],
                [f"{go} {through} the {noun}{passing} and {turn} at the next {self.pick(('one', noun))}"],
                [f"{go} past the {self.ordinals[0]} {noun}", f"at the {self.ordinals[1]} {noun}{corner}, {turn}"],
            ]
        return forms[int(self.draw.random() * len(forms))]

    def _street_ends(self, leg: Leg, turn: str, go: str) -> list[str]:
        forms = (
            f"{go} to the end of the street and {turn}",
            f"{go} until the {self.pick(('street', 'road'))} ends and {turn}",
            f"at the T-intersection, {turn}",
            f"{go} to the T intersection and {turn}",
            f"when you can no longer go straight, {turn}",
            f"{turn} where the street comes to a dead end",
        )
        lead = (
            [f"{self.pick(GO)} {self.pick(THROUGH)} {self.some(len(leg.passed))}"]
            if leg.passed and self.chance(0.4)
            else []
        )
        return [*lead, self.pick(forms)]

    def _vague_turn(self, junction: Junction, turn: str, noun: str, go: str) -> list[str]:
        x = self.landmark(junction.place)
        forms = (
            [f"{go} past {self.thing()} {self.side()}", f"{turn} at the {noun} with {x}"],
            [f"{go} until you see {x} {self.side()}", turn],
            [f"{go} down the street until you reach {x} and {turn}"],
            [f"{turn} when you get to {x}"],
            [f"keep going and {turn} at {x}"],
        )
        return forms[int(self.draw.random() * len(forms))]

    def _turn_at_once(self, leg: Leg, turn: str, noun: str, corner: str, go: str, number: int) -> list[str]:
        """Return a turn at the next junction."""
        junction = leg.turn
        assert junction is not None
        side, near = SIDES[junction.turn], junction.place - leg.begin <= 3
        if leg.passed:
            which = self.pick(("next ", "next ", "", "following "))
        else:
            which = self.pick(("next ", "next ", "first ", "", "following ") if number else ("first ", "", ""))
        if near and number and self.chance(0.4):
            return [
                self.pick(
                    (
                        f"then immediately {turn}",
                        f"and {turn} right away",
                        f"immediately {turn} again",
                        f"quickly {turn}",
                    )
                )
            ]
        forms = [
            [f"{go} to the {which}{noun}{corner} and {turn}"],
            [f"at the {which}{noun}{corner}, {turn}"],
            [f"{turn} at the {which}{noun}{corner}"],
            [f"{go} to the {which}{noun}{corner}", turn],
            [f"{turn} when you reach the {which}{noun}{corner}"],
            [f"take the {self.pick(('next', 'first'))} {side}"],
            [f"{go} down the block{self.passing()} and {turn} at the {which}{noun}"],
            [f"{go} to the end of the {self.pick(('block', 'street', 'block'))} and {turn}"],
            [f"{turn}{self.pick((' again', '', ' here', ' at the ' + noun))}"],
            [f"{go} until you come to the {which}{noun}{corner}", f"{turn} there"],
        ]
        return forms[int(self.draw.random() * len(forms))]


def say(
    graph: StreetGraph, layer: Landmarks, route: np.ndarray, heading: int, style: str, draw: np.random.Generator
) -> str:
    """Return an instruction for a route.

    Args:
        graph: the graph.
        layer: its landmarks.
        route: (L,) panoramas.
        heading: degrees at the start.
        style: "map2seq" (from a map: short, counted) or "touchdown" (from pictures: scenery, an orientation first).
        draw: random draws.
    """
    return Writer(graph, layer, route, style, draw).write(heading)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
