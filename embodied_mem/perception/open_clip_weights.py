"""Where image-tower weights of an open_clip model come from: a file, or the user's cache; never a silent download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError, nearest

CHECKPOINT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


def build_tower(model: str, weights: str | None, download: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Return the image tower of an open_clip model and its pixel statistics ``{"mean", "std"}``.

    Args:
        model: architecture name known to open_clip, or the path of a JSON file with ``embed_dim`` and ``vision_cfg``.
        weights: checkpoint file, a pretrained tag whose file lies in the user's cache, or None for random weights.
        download: let open_clip fetch a tag that is not in the cache.

    Raises:
        UsageError: unknown model or tag, weights that are not there, or weights of another model.
    """
    open_clip = _import()
    config = _model_config(open_clip, model)
    text = config.get("text_cfg") or {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    slim = {key: value for key, value in text.items() if not key.startswith("hf_")} | {"layers": 1, "vocab_size": 64}
    clip = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], slim, quick_gelu=config.get("quick_gelu", False))
    tower = clip.visual
    statistics = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    if weights is None:
        return tower, statistics
    if Path(weights).is_file():
        path = Path(weights)
    else:
        tag = _tag(open_clip, model, weights)
        statistics.update({key: tag[key] for key in ("mean", "std") if tag.get(key)})
        path = _cached(open_clip, tag, model, weights, download)
    _load(open_clip, tower, path)
    return tower, statistics


def _import() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UsageError(
            f"encoder open_clip needs the package open_clip_torch: {error}; pip install open_clip_torch"
        ) from error
    return open_clip


def _model_config(open_clip: Any, model: str) -> dict[str, Any]:
    if model.endswith(".json"):
        try:
            config = json.loads(Path(model).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise UsageError(f"expected an open_clip model description at {model}: {error}") from error
        if not {"embed_dim", "vision_cfg"} <= set(config):
            raise UsageError(f"expected embed_dim and vision_cfg in {model}, got {sorted(config)}")
        return config
    config = open_clip.get_model_config(model)
    if config is None:
        known = open_clip.list_models()
        raise UsageError(f"unknown open_clip model {model!r}{nearest(model, known)}; see open_clip.list_models()")
    return config


def _tag(open_clip: Any, model: str, weights: str) -> dict[str, Any]:
    tag = {} if model.endswith(".json") else open_clip.get_pretrained_cfg(model, weights)
    if not tag:
        known = [] if model.endswith(".json") else open_clip.list_pretrained_tags_by_model(model)
        raise UsageError(
            f"weights {weights!r} are neither a file nor a tag of {model}{nearest(weights, known)}; "
            f"tags: {', '.join(known) or 'none'}"
        )
    return tag


def _cached(open_clip: Any, tag: dict[str, Any], model: str, weights: str, download: bool) -> Path:
    from huggingface_hub import try_to_load_from_cache

    repository, _, filename = str(tag.get("hf_hub", "")).rpartition("/")
    for name in (filename,) if filename else CHECKPOINT_NAMES:
        found = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(found, str):
            return Path(found)
    direct = Path.home() / ".cache" / "clip" / Path(str(tag.get("url", ""))).name
    if tag.get("url") and direct.is_file():
        return direct
    if download:
        return Path(open_clip.download_pretrained(tag))
    raise UsageError(f"weights {weights!r} of {model} are not in the cache; give a file, or set download: true once")


def _load(open_clip: Any, tower: nn.Module, path: Path) -> None:
    state = _state(open_clip, path)
    visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    try:
        tower.load_state_dict(visual or state)
    except RuntimeError as error:
        raise UsageError(f"{path} holds weights of another model: {' '.join(str(error).split())[:200]}") from error


def build_text(model: str, weights: str, download: bool = False) -> Callable[[str], Tensor] | None:
    """Return a function from a text to its features (D,) float32, in the space of the image tower of the same weights.

    None where model or checkpoint have no text tower of open_clip's own kind (image towers alone; texts by other
    libraries).

    Args:
        model: as for `build_tower`.
        weights: as for `build_tower`; random ones have no texts that match their images.
        download: let open_clip fetch a tag that is not in the cache.

    Raises:
        UsageError: as for `build_tower`.
    """
    open_clip = _import()
    config = _model_config(open_clip, model)
    text = config.get("text_cfg")
    if not text or text.get("hf_model_name"):
        return None
    clip = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], text, quick_gelu=config.get("quick_gelu", False))
    path = Path(weights)
    if not path.is_file():
        path = _cached(open_clip, _tag(open_clip, model, weights), model, weights, download)
    state = {key: value for key, value in _state(open_clip, path).items() if not key.startswith("visual.")}
    try:
        missing = clip.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise UsageError(f"{path} holds texts of another model: {' '.join(str(error).split())[:200]}") from error
    if any(not key.startswith(("visual.", "logit_")) and key != "attn_mask" for key in missing):
        return None
    del clip.visual
    clip.eval().requires_grad_(False)
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=int(text.get("context_length", 77)))

    def embed(words: str) -> Tensor:
        with torch.no_grad():
            return clip.encode_text(tokenizer([words]))[0].float()

    return embed


def _state(open_clip: Any, path: Path) -> dict[str, Any]:
    try:
        return open_clip.factory.load_state_dict(str(path))
    except Exception as error:
        raise UsageError(f"cannot read weights from {path}: {' '.join(str(error).split())[:200]}") from error
