"""`ClauseFollower`: chooses a link or the stop from the clause that is due and what the walker has counted.

    e_k = max over words of relu(conv(embedding of the words of clause k))        once per text
    h   = f(sum of learned vectors of the counts, e_k, e_{k+1})                   k = turns made
    score of link i = w . relu(A h + sum of learned vectors of its angles)
    score of the stop j panoramas back = v_j . relu(B h)                          j = 0..K within the block

The pointer k is the number of turns to the named sides that the walker has made (`odometer`): monotone attention over
the clauses as in the agent ``rules``. Learnt is what the rules only guess: at which junction a turn is meant, whether a
junction counts, where to set out and where to stop. The vectors of the counts stand for single counts and for pairs
that an instruction compares (the junction asked for less those passed, with what leads where here).

Cost of a decision: about 40 E + 2 H^2 + L H additions and multiplications; of a text of K clauses of W words 5 K W E C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import gymnasium
import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import linear
from embodied_mem.perception.street_words import OTHER, PAD, VOCABULARY
from embodied_mem.policies.navigation.clauses import NUMBER, PASSED, SIDE, STEPS, STREET_END
from embodied_mem.policies.navigation.odometer import C, check_spaces

MEMORIES = ("odometer", "none")
_FAR = 4
_CLOSED = -1e4
_LAST = 51
"""Actions after which a return is too late: up to three rotations and the stop are left of 55."""


@dataclass(frozen=True)
class ClauseConfig:
    """Options of `ClauseFollower`."""

    memory: str = "odometer"
    """``odometer``: counts of the way; ``none``: only what the present observation shows."""
    graph: bool = True
    """Sees junctions and angles of links; without, only their order."""
    width: int = 128
    """H."""
    embedding: int = 32
    """E, width of a word's vector."""
    channels: int = 64
    """C, width of a clause's vector."""
    kernel: int = 5
    """Words that a feature of a clause spans, odd."""
    back: int = 12
    """K, panoramas that a return may lead back; 0: stops where it stands."""
    dropout: float = 0.1
    """Share of hidden features that are dropped in training."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.memory not in MEMORIES:
            raise UsageError(f"expected agent.memory of a clause follower to be one of {MEMORIES}, got {self.memory!r}")
        if min(self.width, self.embedding, self.channels) < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise UsageError(
                "expected agent.width, embedding, channels >= 1 and an odd kernel, "
                f"got {self.width}, {self.embedding}, {self.channels} and {self.kernel}"
            )
        if self.back < 0:
            raise UsageError(f"expected agent.back >= 0, got {self.back}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"expected agent.dropout in [0, 1), got {self.dropout}")


class Told(NamedTuple):
    """N texts, ready for decisions."""

    vectors: Tensor
    """(N, K, C) float32."""
    numbers: Tensor
    """(N, K, `NUMBERS`) int64, see `clauses`."""
    total: Tensor
    """(N,) int64 clauses."""


class Seen(NamedTuple):
    """Decisions (N, T) of N walks; see `odometer.Look`."""

    counts: Tensor
    """(N, T, P) int64."""
    angles: Tensor
    """(N, T, L) int64."""
    sides: Tensor
    """(N, T, L) int64."""
    traffic: Tensor
    """(N, T, L) int64."""
    open: Tensor
    """(N, T, L) bool."""


class ClauseFollower(nn.Module):
    """Scores of links and stop; the state of a walk is that of `odometer`."""

    bundle_kind: ClassVar[str] = "clauses"
    starts: Tensor
    link_starts: Tensor

    def __init__(self, config: ClauseConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build the follower for single-env spaces.

        Raises:
            UsageError: they lack an entry, or the rules of motion are others than those of Touchdown.
        """
        super().__init__()
        check_spaces(observation_space, action_space)
        self.config, self.observation_space, self.action_space = config, observation_space, action_space
        width, channels = config.width, config.channels
        self.embedding = nn.Embedding(VOCABULARY, config.embedding, padding_idx=PAD)
        self.phrases = nn.Conv1d(config.embedding, channels, config.kernel, padding=config.kernel // 2)
        self.tables = nn.EmbeddingBag(sum(SIZES), width, mode="sum")
        self.links = nn.EmbeddingBag(sum(LINK_SIZES), width, mode="sum")
        nn.init.normal_(self.tables.weight, std=0.1)
        nn.init.normal_(self.links.weight, std=0.1)
        self.due = linear(channels, width)
        self.next = linear(channels, width)
        self.mix = linear(width, width)
        self.toward = linear(width, width)
        self.score = linear(width, 1, 0.1)
        self.halt = nn.Sequential(linear(width, width), nn.ReLU(), linear(width, 1 + config.back, 0.1))
        self.drop = nn.Dropout(config.dropout)
        self.register_buffer("starts", _starts(SIZES), persistent=False)
        self.register_buffer("link_starts", _starts(LINK_SIZES), persistent=False)

    def tell(self, tokens: Tensor, numbers: Tensor, count: Tensor) -> Told:
        """Return texts ready for decisions.

        Args:
            tokens: (N, K, W) int64 concepts.
            numbers: (N, K, `NUMBERS`) int64.
            count: (N,) int64.
        """
        present = torch.arange(tokens.shape[1], device=tokens.device) < count.unsqueeze(1)
        own = tokens[present]
        length = max(1, int((own != PAD).sum(1).max()))
        own = own[:, :length]
        found = torch.relu(self.phrases(self.embedding(own).transpose(1, 2)))
        best = torch.where((own != PAD).unsqueeze(1), found, 0.0).amax(-1)
        vectors = best.new_zeros(*tokens.shape[:2], best.shape[-1])
        vectors[present] = best
        return Told(vectors, numbers, count)

    def forward(self, told: Told, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return scores (N, T, L) of the links and (N, T, 1 + K) of the stop 0..K panoramas back, float32."""
        counts = seen.counts
        if self.config.memory == "none":
            counts = counts * counts.new_tensor([name in _PRESENT for name in C])
        if not self.config.graph:
            counts = counts * counts.new_tensor([name not in _GRAPH for name in C])
        turns = torch.minimum(counts[..., C["turns"]], told.total.unsqueeze(1) - 1)
        after = torch.minimum(turns + 1, told.total.unsqueeze(1) - 1)
        numbers = _pick(told.numbers, turns)
        bags = _bags(counts, numbers, told.total.unsqueeze(1) - 1 - turns)
        h = self.tables((bags + self.starts).flatten(0, 1)).view(*bags.shape[:2], -1)
        # The next clause counts as due nowhere: it only tells what comes.
        h = h + self.due(_pick(told.vectors, turns)) + self.next(_pick(told.vectors, after))
        h = torch.relu(self.mix(self.drop(torch.relu(h))))
        ways = _link_bags(seen, counts, numbers, self.config.graph)
        link = self.links((ways + self.link_starts).flatten(0, 2)).view(*ways.shape[:3], -1)
        scores = self.score(torch.relu(self.toward(h).unsqueeze(2) + link)).squeeze(-1)
        scores = torch.where(seen.open, scores, _CLOSED)
        back = torch.arange(1 + self.config.back, device=scores.device)
        span, step = counts[..., C["span"], None], counts[..., C["step"], None]
        near = (back == 0) | ((back <= span) & (back + step <= _LAST))
        return scores, torch.where(near, self.halt(h), _CLOSED)

    def hide(self, tokens: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
        """Return concepts with a share ``rate`` of them replaced by `OTHER`: words that nobody foresaw."""
        drawn = torch.rand(tokens.shape, generator=generator, device=tokens.device) < rate
        return torch.where(drawn & (tokens != PAD), OTHER, tokens)


_GRAPH = (
    "since", "merged", "lefts", "rights", "walked", "block", "before", "crossing", "left", "straight", "right", "span",
)  # fmt: skip
_PRESENT = ("start", "crossing", "left", "straight", "right", "step")
SIZES = (
    3, 9, 7, 8,  # side, number, passed, steps of the clause that is due
    2, 9, 9, 7, 7,  # start, since, merged, lefts, rights
    17, 14, 2 * 34, 7 * 17,  # walked, leg, style x visited, clauses left x visited
    (2 * _FAR + 3) * 5, (2 * _FAR + 3) * 5, (2 * _FAR + 3) * 5,  # number less since, merged, fitting; x what leads here
    (2 * _FAR + 1) * 12, (2 * _FAR + 1) * 12,  # passed less since, merged; x walked
    (2 * _FAR + 2) * 2, (2 * _FAR + 2) * 2,  # steps less walked x passed enough; junction of the stop less since
    12, 12, 12 * 12,  # block, block before, block x walked
    5, 28, 2 * 27,  # what leads here, steps played, crossing x span
)  # fmt: skip
"""Values told apart of every count or pair of counts."""
LINK_SIZES = (15, 15 * 3, (2 * _FAR + 3) * 15, (2 * _FAR + 3) * 15, 14, 14 * 2)
"""Of every link: angle, angle x side due, number less since and less merged x side, traffic and angle at the start."""


def _starts(sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *sizes[:-1]]).cumsum(0)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Return entries (N, T, D) of ``values`` (N, K, D) by ``index`` (N, T)."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _apart(wanted: Tensor, have: Tensor) -> Tensor:
    """Return what is missing as 0..2 `_FAR`."""
    return (wanted - have).clamp(-_FAR, _FAR) + _FAR


def _missing(number: Tensor, have: Tensor) -> Tensor:
    """Return how many junctions are missing to a turn, 0..2 `_FAR`, then unknown and the end of the street."""
    known = torch.where(number == STREET_END, 2 * _FAR + 2, _apart(number, have))
    return torch.where(number == 0, 2 * _FAR + 1, known)


def _bags(counts: Tensor, numbers: Tensor, left: Tensor) -> Tensor:
    """Return the indices (N, T, len(`SIZES`)) of counts (N, T, P) and the numbers (N, T, 4) of the clauses due."""

    def count(name: str, most: int) -> Tensor:
        return counts[..., C[name]].clamp(0, most)

    side, number, passed, steps = (numbers[..., column] for column in (SIDE, NUMBER, PASSED, STEPS))
    since, merged = counts[..., C["since"]], counts[..., C["merged"]]
    fits = torch.where(side < 0, counts[..., C["lefts"]], torch.where(side > 0, counts[..., C["rights"]], since))
    opens = torch.where(side < 0, counts[..., C["left"]], counts[..., C["right"]])
    ahead, crossing = counts[..., C["straight"]], counts[..., C["crossing"]]
    here = torch.where(crossing > 0, 1 + 2 * ahead.clamp(0, 1) + torch.where(side == 0, 0, opens.clamp(0, 1)), 0)
    walked, visited = count("walked", 11), count("visited", 66) // 2
    late = count("visited", 66) // 4
    enough = (since >= passed).long()
    to_go = torch.where(steps == 0, 2 * _FAR + 1, _apart(steps, counts[..., C["walked"]]))
    junction = torch.where((side != 0) | (number == 0), 2 * _FAR + 1, _apart(number, since))
    block, before = count("block", 44) // 4, count("before", 44) // 4
    columns = [
        side + 1, number, passed, steps,
        count("start", 1), since.clamp(0, 8), merged.clamp(0, 8), count("lefts", 6), count("rights", 6),
        count("walked", 16), count("leg", 54) // 4, count("style", 1) * 34 + visited, left.clamp(0, 6) * 17 + late,
        _missing(number, since) * 5 + here, _missing(number, merged) * 5 + here, _missing(number, fits) * 5 + here,
        _apart(passed, since) * 12 + walked, _apart(passed, merged) * 12 + walked,
        to_go * 2 + enough, junction * 2 + crossing.clamp(0, 1),
        block, before, block * 12 + walked,
        here, count("step", 54) // 2, crossing.clamp(0, 1) * 27 + count("span", 26),
    ]  # fmt: skip
    return torch.stack(columns, -1)


def _link_bags(seen: Seen, counts: Tensor, numbers: Tensor, graph: bool) -> Tensor:
    """Return the indices (N, T, L, len(`LINK_SIZES`)) of every link."""
    side, number = numbers[..., SIDE, None], numbers[..., NUMBER, None]
    start = counts[..., C["start"], None] > 0
    since, merged = counts[..., C["since"], None], counts[..., C["merged"], None]
    order = torch.arange(seen.angles.shape[-1], device=seen.angles.device).expand_as(seen.angles)
    if graph:
        angle = torch.where(seen.angles.abs() <= 8, 13, (seen.angles + 180) // 30)
    else:
        angle = order
    due = torch.where(side == 0, 0, torch.where(seen.sides == side, 1, 2))
    fit = (seen.sides + 1) * 3 + due
    # At the start nothing has been arrived from, so a side means nothing yet.
    fit = torch.where(start, 0, fit) if graph else torch.zeros_like(fit)
    car = torch.where(start, (seen.traffic + 180) // 30, 13)
    aligned = torch.where(start, angle.clamp(0, 13), 0) + 14 * (counts[..., C["style"], None] > 0).long()
    return torch.stack(
        [
            angle.expand_as(order),
            (angle * 3 + side + 1).expand_as(order),
            (_missing(number, since) * 15 + fit).expand_as(order),
            (_missing(number, merged) * 15 + fit).expand_as(order),
            car.expand_as(order),
            aligned.expand_as(order),
        ],
        -1,
    )
