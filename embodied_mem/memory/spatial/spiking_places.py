"""Modular and ensemble spiking networks for place recognition; a reconstruction from the two papers' abstracts.

The map is cut into regions of ``region`` places. Each region has ``ensemble`` modules of ``neurons`` excitatory
leaky integrate-and-fire neurons with adaptive thresholds and lateral inhibition, trained by STDP on its own places
only; all modules of one update run as one batch. Modules that never saw each other's places are made comparable by
regularisation: a neuron that fires more for places of other regions than for its own is hyperactive and is masked, up
to a share ``most_masked`` per module.

    input       patch-normalised image, down-sampled to ``side`` x ``side``, on and off channels, as rates
    potential   u <- leak u + W s_in - inhibition (spikes of the others in the last tick);  spike where u > 1 + theta
    threshold   theta <- theta keep + theta_step per spike, in training only
    STDP        w <- w + rate (trace_in - w) at a spike, rows kept at norm 1
    places      neuron j answers for the place of its region at which it fired most
    score       of place i: mean spikes of its neurons that are not masked, over all modules of its region

Sequence matching is `place_recognition.SequenceMatching`, as for any recogniser. Monolithic = one region of all places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError

__all__ = ["SpikingConfig", "SpikingPlaces"]

_EPS = 1e-6


@dataclass(frozen=True)
class SpikingConfig:
    """Size of the networks and their learning."""

    region: int = 10
    """Places of a region."""
    ensemble: int = 1
    """Modules of a region, of different seeds."""
    neurons: int = 40
    """Excitatory neurons of a module."""
    side: int = 12
    """Pixels per side of the down-sampled image."""
    patch: int = 3
    """Pixels per side of a patch that is normalised by itself."""
    ticks: int = 12
    """Ticks that an image is shown."""
    epochs: int = 8
    """Times that every place is shown in training."""
    leak: float = 0.8
    """Share of the potential kept per tick."""
    inhibition: float = 0.2
    """Potential taken from a neuron per spike of another one."""
    theta_step: float = 0.1
    """Rise of the threshold per spike."""
    theta_keep: float = 0.995
    """Share of the threshold's rise kept per tick."""
    rate: float = 0.1
    """Learning rate of the weights at a spike."""
    most_masked: float = 0.3
    """Largest share of a module's neurons that is masked; 0 leaves regularisation out."""
    seed: int = 0
    """Seed of the first module's weights."""

    def __post_init__(self) -> None:
        counts = (self.region, self.ensemble, self.neurons, self.side, self.patch, self.ticks, self.epochs)
        if min(counts) < 1 or self.side % self.patch:
            raise UsageError(f"expected sizes >= 1 and side divisible by patch, got {counts}")
        if not 0 <= self.leak < 1 or not 0 <= self.theta_keep <= 1 or not 0 <= self.most_masked < 1:
            raise UsageError(
                "expected leak, most_masked in [0, 1) and theta_keep in [0, 1], got "
                f"{self.leak}, {self.most_masked}, {self.theta_keep}"
            )


class SpikingPlaces:
    """Place recogniser of spiking modules; a `place_recognition.PlaceRecogniser`, trained at the first query."""

    def __init__(self, config: SpikingConfig | None = None) -> None:
        self.config = config or SpikingConfig()
        self._known: list[Tensor] = []
        self._trained = 0

    def add(self, image: Tensor) -> int:
        """Add the next place, seen as an image (H, W), (H, W, C) or of these; float or uint8."""
        self._known.append(self._rates(image))
        return len(self._known) - 1

    def query(self, image: Tensor) -> Tensor:
        """Return a score (places,) of every place."""
        return self.query_many(image.unsqueeze(0))[0]

    def query_many(self, images: Tensor) -> Tensor:
        """Return scores (Q, places) for images (Q, ...)."""
        if not self._known:
            return torch.zeros(len(images), 0)
        if self._trained != len(self._known):
            self.train()
        spikes = self._present(torch.stack([self._rates(image) for image in images]))
        return self._scores(spikes)

    @property
    def masked(self) -> Tensor:
        """Which neurons are hyperactive, (modules, neurons) bool."""
        if self._trained != len(self._known):
            self.train()
        return self._masked

    def train(self) -> None:
        """Train all modules on their regions, find hyperactive neurons and assign neurons to places."""
        c, places = self.config, torch.stack(self._known)
        N, inputs = places.shape
        self.regions = -(-N // c.region)
        modules = self.regions * c.ensemble
        weights = []
        for module in range(modules):
            generator = torch.Generator().manual_seed(c.seed + module)
            weights.append(torch.rand(c.neurons, inputs, generator=generator))
        self._weights = F.normalize(torch.stack(weights), dim=-1)
        self._theta = torch.zeros(modules, c.neurons)
        self._trained = N
        # place k of every region at once; a last region that is short shows its places again
        start = torch.arange(self.regions).repeat_interleave(c.ensemble) * c.region
        size = (N - start).clamp(max=c.region)
        for _ in range(c.epochs):
            for k in range(c.region):
                self._learn(places[start + k % size])
        answers = self._present(places, masked=False)
        own = (torch.arange(N) // c.region) == torch.arange(self.regions).repeat_interleave(c.ensemble).unsqueeze(1)
        self._regularise(answers, own)
        inside = answers.masked_fill(~own.T.unsqueeze(-1), -1.0)
        self._place = inside.argmax(0)

    def _learn(self, rates: Tensor) -> None:
        """Show one image (modules, inputs) to each module and adapt weights and thresholds."""
        c = self.config
        u = torch.zeros_like(self._theta)
        fired = torch.zeros_like(u)
        target = F.normalize(rates, dim=-1)
        drive = torch.bmm(self._weights, target.unsqueeze(-1)).squeeze(-1)
        for _ in range(c.ticks):
            u = c.leak * u + drive - c.inhibition * (fired.sum(1, keepdim=True) - fired)
            above = u - 1 - self._theta
            # lateral inhibition is fast in training: the strongest neuron alone fires in a tick
            fired = ((above > 0) & (above == above.amax(1, keepdim=True))).float()
            u = torch.where(fired > 0, 0.0, u)
            self._theta = c.theta_keep * self._theta + c.theta_step * fired
            change = c.rate * fired.unsqueeze(-1) * (target.unsqueeze(1) - self._weights)
            self._weights = F.normalize(self._weights + change, dim=-1)
            drive = torch.bmm(self._weights, target.unsqueeze(-1)).squeeze(-1)

    def _present(self, rates: Tensor, masked: bool = True) -> Tensor:
        """Return the spikes (Q, modules, neurons) for images (Q, inputs); nothing is learnt."""
        c = self.config
        drive = torch.einsum("mji,qi->qmj", self._weights, F.normalize(rates, dim=-1))
        if masked:
            drive = drive.masked_fill(self._masked, 0.0)
        u, spikes = torch.zeros_like(drive), torch.zeros_like(drive)
        fired = torch.zeros_like(drive)
        for _ in range(c.ticks):
            u = c.leak * u + drive - c.inhibition * (fired.sum(-1, keepdim=True) - fired)
            fired = (u > 1 + self._theta).float()
            # what is left above the threshold counts on, so that counts are graded
            u = u - fired * (1 + self._theta)
            spikes = spikes + fired
        return spikes + (u / (1 + self._theta)).clamp(0, 1) * (spikes > 0)

    def _regularise(self, answers: Tensor, own: Tensor) -> None:
        """Mask, per module, the neurons that fire most outside the region, where that is more than inside."""
        inside = own.T.unsqueeze(-1).float()
        mean_in = (answers * inside).sum(0) / inside.sum(0).clamp(min=1)
        mean_out = (answers * (1 - inside)).sum(0) / (1 - inside).sum(0).clamp(min=1)
        excess = mean_out - mean_in
        allowed = int(self.config.most_masked * self.config.neurons)
        rank = excess.argsort(1, descending=True).argsort(1)
        self._masked = (excess > 0) & (rank < allowed)

    def _scores(self, spikes: Tensor) -> Tensor:
        """Return (Q, places): spikes of a place's neurons per neuron, summed over the modules of its region."""
        N = len(self._known)
        place = self._place.masked_fill(self._masked, N).flatten()
        total = torch.zeros(len(spikes), N + 1).index_add_(1, place, spikes.flatten(1))
        count = torch.zeros(N + 1).index_add_(0, place, torch.ones(len(place)))
        return (total / count.clamp(min=1))[:, :N]

    def _rates(self, image: Tensor) -> Tensor:
        """Return on and off rates (2 side^2,) of a patch-normalised, down-sampled image."""
        c = self.config
        if image.dim() not in (2, 3):
            raise UsageError(f"expected an image (H, W) or (H, W, C), got {tuple(image.shape)}")
        grey = image.float().mean(-1) if image.dim() == 3 else image.float()
        small = F.interpolate(grey[None, None], (c.side, c.side), mode="area")[0, 0]
        patches = small.unfold(0, c.patch, c.patch).unfold(1, c.patch, c.patch)
        mean, spread = patches.mean((-1, -2), keepdim=True), patches.std((-1, -2), keepdim=True, correction=0)
        flat = ((patches - mean) / (spread + _EPS)).flatten()
        return torch.cat([flat.clamp(min=0), (-flat).clamp(min=0)])
