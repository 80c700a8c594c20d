"""Perception ``transformers``: a vision-language model from a local folder; nothing is ever fetched.

The model reads the picture and the instruction once. Perceptual tokens are what enters its first layer at the places of
the picture (its own projected image features) through the bottleneck; the cognitive token is its last hidden state at
the last place of the prompt, mapped to D_c. With ``vector`` among ``reads`` the state is added to the cognitive token.

The model stays out of the policy's state dict when it is frozen: it is read again from its folder.

Limits: one picture per frame (the first of ``reads``); a frozen model's features are not cached between updates, so
it is meant for a GPU or for recorded features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.config import PerceptionConfig
from embodied_mem.policies.vla.tokens import Bottleneck, Perception
from embodied_mem.spaces import decode_text


class LanguageModelPerception(Perception):
    """A vision-language model of transformers."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict) -> None:
        """Read the model and its processor from the folder ``config.model``.

        Raises:
            UsageError: there is no picture to read, or the folder holds no vision-language model.
        """
        super().__init__(config, space)
        if not self.pictures:
            raise UsageError(f"perception 'transformers' reads a picture, got {sorted(space.spaces)}")
        self.pictures = self.pictures[:1]
        self.processor, model = _read(config.model)
        self.place = _image_token(model, config.model)
        described = model.config.get_text_config()
        self.bottleneck = Bottleneck(described.hidden_size, config.width, config.tokens)
        self.think = nn.Linear(described.hidden_size, config.cognitive)
        self.feel = nn.Linear(self.state, config.cognitive) if self.state else None
        self.norm = nn.LayerNorm(config.cognitive)
        self._external: list[nn.Module] = []
        if config.frozen:
            self._external.append(model.requires_grad_(False).eval())
        else:
            self.model = model

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Perception.forward`.

        Raises:
            UsageError: the model gives a picture fewer places than ``tokens``.
        """
        model: Any = self._external[0] if self._external else self.model
        pictures = list(obs[self.pictures[0]].cpu().numpy())
        asked = [decode_text(row) for row in obs["instruction"].cpu().numpy()] if self.told else [""] * len(pictures)
        mark = getattr(self.processor, "image_token", "<image>")
        inputs = self.processor(
            images=pictures, text=[f"{mark} {text}" for text in asked], return_tensors="pt", padding=True
        ).to(self.think.weight.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            hidden = model(**inputs, output_hidden_states=True).hidden_states
        seen = inputs["input_ids"] == self.place
        count = int(seen[0].sum())
        if count < self.config.tokens:
            raise UsageError(
                f"expected at least {self.config.tokens} places of a picture, {self.config.model} has {count}"
            )
        patches = hidden[0][seen].view(len(seen), count, -1).float()
        places = torch.arange(seen.shape[1], device=seen.device)
        last = (inputs["attention_mask"] * places).argmax(1)
        thought = self.think(hidden[-1][torch.arange(len(last), device=last.device), last].float())
        if self.feel is not None:
            thought = thought + self.feel(self._state(obs))
        return self.bottleneck(patches), self.norm(thought)

    def _apply(self, fn: Any, recurse: bool = True) -> LanguageModelPerception:
        for model in self._external:
            model._apply(fn)
        return super()._apply(fn, recurse)


def _read(folder: str) -> tuple[Any, Any]:
    if not (Path(folder) / "config.json").is_file():
        raise UsageError(
            f"expected the folder of a transformers model at perception.model, no config.json in {folder!r}"
        )
    import transformers

    try:
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
        return transformers.AutoProcessor.from_pretrained(folder, local_files_only=True), model
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise UsageError(f"{folder} holds no vision-language model of transformers: {text}") from error


def _image_token(model: Any, folder: str) -> int:
    for name in ("image_token_id", "image_token_index"):
        found = getattr(model.config, name, None)
        if found is not None:
            return int(found)
    raise UsageError(f"{folder} does not say which token stands for a picture (image_token_id)")
