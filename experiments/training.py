"""`train`: a preset, overrides and seeds become a run folder. What ``embodied-mem train`` calls, for Python."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.experiments.presets_loader import KINDS, PLAIN, Config, kind_of, load_preset
from embodied_mem.policies.training.config import RunConfig
from embodied_mem.policies.training.run import RUN_FILE, Report, stored_algorithm, stored_config, train_run
from embodied_mem.policies.training.vla import VLARunConfig


def train(
    preset: str | None,
    *,
    seeds: Sequence[int] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    tune: Mapping[str, Sequence[Any]] | None = None,
    report: Report | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Train a preset and return the result object (see `embodied_mem.results.make_result`).

    ``train("repeat-previous", lr=3e-4, **{"agent.memory": "lstm"}, seeds=[0, 1])``

    Args:
        preset: name or YAML file; None only when resuming, where the run folder knows it.
        seeds: training seeds, one run each, one after another; default [0], or those of the run that is resumed.
        out: run folder; default ``runs/PRESET-TIME``.
        resume: continue the run in ``out``.
        tune: values to try per key; every combination is a run of its own under ``out`` (Ray Tune).
        report: watches the run.
        overrides: keys of the preset, dotted ones through ``**{"agent.memory": "gru"}``.

    Raises:
        UsageError: an unknown preset or key, settings that do not fit, or a folder that holds another run.
        OSError: the disk is full or not writable.
        KeyboardInterrupt: interrupted; a checkpoint was written.
    """
    if resume and out is None:
        raise UsageError("expected the folder of the run to resume; give --out DIR")
    config: Config
    if preset is None:
        if not resume:
            raise UsageError("expected a preset; see `embodied-mem list presets`")
        name, config, _ = _stored(str(out))
    else:
        loaded = load_preset(preset)
        name, config = loaded.name, loaded.config
    config = kind_of(config).override(config, overrides)
    out = Path(out) if out is not None else Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not seeds:
        resumed = resume and (Path(out) / RUN_FILE).is_file()
        seeds = _stored(out)[2] if resumed else [0]
    if not isinstance(config, RunConfig):
        from embodied_mem.policies.imitation.run import train_imitation
        from embodied_mem.policies.imitation.trainer import ImitationSeed
        from embodied_mem.policies.navigation.clause_config import ClauseRunConfig
        from embodied_mem.policies.navigation.clause_seed import ClauseSeed
        from embodied_mem.policies.navigation.config import StreetRunConfig
        from embodied_mem.policies.navigation.street_seed import StreetSeed

        if tune:
            raise UsageError("--tune is not there for imitation; train each setting as a run of its own")
        seeds_of = {StreetRunConfig: StreetSeed, ClauseRunConfig: ClauseSeed}
        kind: type[ImitationSeed] = seeds_of.get(type(config), ImitationSeed)
        return train_imitation(config, name, out, seeds=list(seeds), resume=resume, report=report, kind=kind)
    if tune:
        from embodied_mem.policies.training.sweep import sweep

        if isinstance(config, VLARunConfig):
            raise UsageError("--tune is not there for vla_ppo; train each setting as a run of its own")
        if resume:
            raise UsageError("a sweep cannot be resumed; resume its runs one by one, or give another --out")
        return sweep(config, name, out, tune, seeds=seeds, report=report)
    return train_run(config, name, out, seeds=list(seeds), resume=resume, report=report)


def _stored(out: str | Path) -> tuple[str, Config, list[int]]:
    """Return name, configuration and seeds of the run in ``out``, of any kind."""
    return stored_config(out, KINDS.get(str(stored_algorithm(out)), PLAIN).config)
