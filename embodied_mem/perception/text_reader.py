"""`TextReader`: reads an instruction with a query that changes from step to step, as attention over its words.

    m_1..m_W = bidirectional GRU over concepts (`street_words`), and where in the text a word stands: once per text
    q <- q + f([q, attention(q; m)])                                     per step, ``hops`` times

The memory of an agent counts what the agent did (turns, junctions, steps); the reader finds what the text wants done
then. Text and motion meet only here, so the text is encoded once per episode and whatever memory is registered can
stand in front. Follows the attention of ORAR (Schumann & Riezler 2022) over a recurrent text encoder; there the
attended text is fed back into a second LSTM, here the query is refined by further hops instead, which keeps a sequence
parallel in time.

Cost per text of W tokens: W GRU steps per direction, about 4 W E H + 3 W H^2 multiply-accumulates; per step
``hops`` (2 W H + 4 H^2). Limits: the vocabulary is that of street instructions; what a text said is not remembered, so
the memory cannot depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import linear
from embodied_mem.perception.street_words import OTHER, PAD, PERIOD, VOCABULARY, concepts, tokenize

_PLACES = 6
"""Numbers that tell where in the text a word stands."""
_SIDES = (concepts()["left"], concepts()["right"])


@dataclass(frozen=True)
class ReaderConfig:
    """Options of `TextReader`."""

    entry: str = "instruction"
    """Observation entry with the text, (L,) uint8."""
    width: int = 96
    """H, width of encoded words and of the output."""
    embedding: int = 48
    """E, width of a concept's vector."""
    heads: int = 4
    """Attention heads."""
    hops: int = 2
    """Times the text is looked at per step."""
    words: int = 160
    """W, tokens that are read; the rest of a longer text is not."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("embedding", "heads", "hops", "words"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected reader.{name} >= 1, got {getattr(self, name)}")
        if self.width < 2 or self.width % (2 * self.heads):
            raise UsageError(f"expected reader.width to divide by 2 x heads ({2 * self.heads}), got {self.width}")


class Encoded(NamedTuple):
    """N texts, ready for attention."""

    keys: Tensor
    """(N, W, 2 * hops * H) float32: key and value of every hop."""
    present: Tensor
    """(N, W) bool, False on padding; the first place is always True."""


class TextReader(nn.Module):
    """Attention over the words of an instruction."""

    def __init__(self, config: ReaderConfig, query_dim: int) -> None:
        """Build the reader for queries of width ``query_dim``."""
        super().__init__()
        self.config, self.out_dim = config, config.width
        half, width = config.width // 2, config.width
        self.embedding = nn.Embedding(VOCABULARY, config.embedding, padding_idx=PAD)
        self.onward = nn.GRU(config.embedding, half, batch_first=True)
        self.homeward = nn.GRU(config.embedding, half, batch_first=True)
        self.keys = linear(width + _PLACES, 2 * config.hops * width, 1.0)
        self.query = linear(query_dim, width)
        self.refine = nn.ModuleList(
            nn.Sequential(linear(2 * width, width), nn.ReLU(), linear(width, width, 0.5)) for _ in range(config.hops)
        )
        # A memo, never a state: the texts of the last call and what they were encoded to, by weights.
        self._memo: tuple[int, Tensor, Encoded] | None = None

    def forward(self, query: Tensor, text: Tensor) -> Tensor:
        """Return what the text answers, (B, H) or (B, T, H) float32.

        Args:
            query: (B, D) or (B, T, D) float32.
            text: (B, L) or (B, T, L) uint8; along T it may change where an episode begins.
        """
        if query.dim() == 2:
            return self.attend(query.unsqueeze(1), self._remembered(text)).squeeze(1)
        rows, steps = query.shape[:2]
        fresh = torch.ones(rows, steps, dtype=torch.bool, device=text.device)
        fresh[:, 1:] = (text[:, 1:] != text[:, :-1]).any(-1)
        encoded = self.encode(tokenize(text[fresh], self.config.words))
        if len(encoded.keys) == rows:
            return self.attend(query, encoded)
        which = fresh.flatten().cumsum(0) - 1
        spread = Encoded(encoded.keys[which], encoded.present[which])
        return self.attend(query.flatten(0, 1).unsqueeze(1), spread).view(rows, steps, -1)

    def encode(self, tokens: Tensor) -> Encoded:
        """Encode concepts (N, W) int64, padded on the right with `PAD`."""
        present = tokens != PAD
        lengths = present.sum(1, keepdim=True)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        mirror = (lengths - 1 - places).clamp(min=0)
        x = self.embedding(tokens)
        there, _ = self.onward(x)
        back, _ = self.homeward(self.embedding(tokens.gather(1, mirror)))
        back = back.gather(1, mirror.unsqueeze(-1).expand_as(back))
        return Encoded(self.keys(torch.cat([there, back, _where(tokens)], -1)), present | (places == 0))

    def attend(self, query: Tensor, encoded: Encoded) -> Tensor:
        """Return answers (B, T, H) to queries (B, T, D) about B encoded texts."""
        config = self.config
        q = self.query(query)
        parts = encoded.keys.chunk(2 * config.hops, -1)
        mask = encoded.present[:, None, None]
        for hop, refine in enumerate(self.refine):
            key, value = (self._split(part) for part in parts[2 * hop : 2 * hop + 2])
            found = nn.functional.scaled_dot_product_attention(self._split(q), key, value, attn_mask=mask)
            q = q + refine(torch.cat([q, found.transpose(1, 2).flatten(2)], -1))
        return q

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)

    def _remembered(self, text: Tensor) -> Encoded:
        """Return encoded texts (B, L); without gradients those of the last call are not encoded again."""
        if torch.is_grad_enabled():
            return self.encode(tokenize(text, self.config.words))
        stamp = sum(parameter._version for parameter in self.parameters())
        memo = self._memo
        if memo is None or memo[0] != stamp or memo[1].shape != text.shape or memo[1].device != text.device:
            encoded = self.encode(tokenize(text, self.config.words))
        else:
            changed = (memo[1] != text).any(-1)
            encoded = memo[2]
            if bool(changed.any()):
                new = self.encode(tokenize(text[changed], self.config.words))
                encoded = Encoded(encoded.keys.clone(), encoded.present.clone())
                encoded.keys[changed], encoded.present[changed] = new.keys, new.present
        self._memo = (stamp, text.clone(), encoded)
        return encoded

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memo out of copies."""
        return {**self.__dict__, "_memo": None}

    def hide(self, tokens: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
        """Return concepts (N, W) with a share ``rate`` of them replaced by `OTHER`: words that nobody foresaw."""
        drawn = torch.rand(tokens.shape, generator=generator, device=tokens.device) < rate
        return torch.where(drawn & (tokens != PAD), OTHER, tokens)


def _where(tokens: Tensor) -> Tensor:
    """Return where words stand, (N, W, `_PLACES`) float32: share of the text and its sentences, sides named around it.

    Who has counted turns and steps finds the sentence that is due by these alone; the network need not learn to count
    words before it can learn what they mean.
    """
    present = tokens != PAD
    length = present.sum(1, keepdim=True).clamp(min=1)
    place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens) / length
    ends = (tokens == PERIOD).long()
    sentence = ends.cumsum(1) - ends
    side = ((tokens == _SIDES[0]) | (tokens == _SIDES[1])).long()
    before = side.cumsum(1) - side
    after = side.sum(1, keepdim=True) - before - side
    sentences = sentence / ends.sum(1, keepdim=True).clamp(min=1)
    parts = [place, sentences, before / 4.0, after / 4.0, (before == 0).float(), (after == 0).float()]
    return torch.where(present.unsqueeze(-1), torch.stack(parts, -1), 0.0)
