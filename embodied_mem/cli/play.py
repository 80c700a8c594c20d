"""``embodied-mem play``: play an environment with the keyboard, watch an agent play it, or record a video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embodied_mem.cli.output import emit_json, stdout
from embodied_mem.errors import UsageError

if TYPE_CHECKING:
    from embodied_mem.cli.playing.game import Game
    from embodied_mem.cli.playing.terminal import Terminal
    from embodied_mem.cli.playing.video import Video
    from embodied_mem.cli.playing.window import Window

LONGEST = 5000
"""Steps after which an agent's only episode is cut."""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def play(
        env: str = typer.Argument(..., help="Gymnasium id, for example House-ObjectNav-v0."),
        level: int | None = typer.Option(None, "--level", help="Difficulty, where the environment has levels."),
        split: str | None = typer.Option(None, "--split", help="train or test, where the environment has splits."),
        agent: str | None = typer.Option(None, "--agent", help="Let this agent play: oracle, random, ..."),
        checkpoint: Path | None = typer.Option(None, "--checkpoint", help="Let a trained agent play: its folder."),
        record: Path | None = typer.Option(None, "--record", help="Write a video: FILE.mp4."),
        steps: int | None = typer.Option(None, "--steps", help="Stop after so many steps (agents: one episode)."),
        seed: int = typer.Option(0, "--seed", help="Seed of the episodes."),
        option: list[str] = typer.Option([], "--env", help="key=value for the environment; repeatable."),
        fps: float = typer.Option(10.0, "--fps", help="Steps per second of the video and of an agent on screen."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout; nothing is shown."),
    ) -> None:
        """Play an environment with the keyboard, in a window or the terminal, or watch an agent play it."""
        from embodied_mem.cli.playing import terminal, window
        from embodied_mem.cli.playing.game import Game
        from embodied_mem.cli.playing.video import Video
        from embodied_mem.config import parse_overrides
        from embodied_mem.envs.make import find_spec, renders_pictures

        alone = agent is not None or checkpoint is not None
        if agent is not None and checkpoint is not None:
            raise UsageError("expected --agent or --checkpoint, got both")
        if fps <= 0 or (steps is not None and steps < 1):
            raise UsageError(f"expected fps > 0 and steps >= 1, got {fps} and {steps}")
        find_spec(env)
        quiet = as_json or (alone and not terminal.usable())
        # An agent needs no picture to play; what cannot be shown is only told.
        quiet = quiet or (alone and record is None and not renders_pictures(env))
        if not alone and (as_json or not (terminal.usable() or window.usable())):
            raise UsageError("no keyboard to play with: run it in a terminal, or give --agent NAME or --checkpoint DIR")
        given: dict[str, Any] = {"level": level, "split": split}
        options = {name: value for name, value in given.items() if value is not None} | parse_overrides(option)
        with ExitStack() as stack:
            video = stack.enter_context(Video(record, fps)) if record is not None else None
            game = Game(env, options, agent, checkpoint, seed, shown=record is not None or not quiet)
            stack.callback(game.close)
            if not alone and not game.actions:
                raise UsageError(
                    f"{game.env_id} has no list of actions for keys; give --agent NAME or --checkpoint DIR"
                )
            screen: Terminal | Window | None = None
            if not quiet and window.usable():
                screen = stack.enter_context(window.Window())
            elif not quiet:
                screen = stack.enter_context(terminal.Terminal())
            played = _watch(game, screen, video, steps, fps) if alone else _play(game, screen, video, steps)
        _tell(game.env_id, played, record if video is not None and video.frames else None, as_json)


def _watch(
    game: Game, screen: Terminal | Window | None, video: Video | None, steps: int | None, fps: float
) -> list[dict[str, Any]]:
    """Let the agent play for ``steps`` steps, or for one episode; return what was played."""
    from embodied_mem.cli.playing.keys import QUIT

    played: list[dict[str, Any]] = []
    _draw(game, screen, video, True, "q quit")
    for _ in range(steps or LONGEST):
        if game.episode.ended:
            played.append(_row(game))
            if steps is None:
                return played
            game.restart()
            _draw(game, screen, video, True, "q quit")
        game.step()
        _draw(game, screen, video, True, "q quit")
        if screen is not None and screen.key(1.0 / fps) in QUIT:
            break
    return [*played, _row(game)]


def _play(game: Game, screen: Terminal | Window | None, video: Video | None, steps: int | None) -> list[dict[str, Any]]:
    """Let a person play until the key for quitting is pressed, or for ``steps`` steps; return what was played."""
    from embodied_mem.cli.playing.keys import NEXT, QUIT, bindings, key_help

    assert screen is not None
    keys, line = bindings(game.actions), key_help(game.actions)
    played: list[dict[str, Any]] = []
    taken = 0
    _draw(game, screen, video, False, line)
    while steps is None or taken < steps:
        key = screen.key()
        if key in QUIT:
            break
        if key in NEXT or (game.episode.ended and key in keys):
            played.append(_row(game))
            game.restart()
        elif key in keys:
            game.step(keys[key])
            taken += 1
        else:
            continue
        _draw(game, screen, video, False, "any action: next episode  |  q quit" if game.episode.ended else line)
    return [*played, _row(game)]


def _draw(game: Game, screen: Terminal | Window | None, video: Video | None, targets: bool, below: str) -> None:
    if screen is None and video is None:
        return
    from embodied_mem.cli.playing.picture import compose

    image = compose(game, targets=targets)
    if video is not None:
        for _ in range(round(video.fps) if game.episode.ended else 1):
            video.add(image)
    if screen is not None:
        screen.show(image, below)


def _row(game: Game) -> dict[str, Any]:
    episode = game.episode
    row = {
        "episode": episode.number,
        "steps": episode.steps,
        "return": round(episode.score, 4),
        "ended": episode.ended,
    }
    return row | ({"info": episode.facts} if episode.facts else {})


def _tell(env_id: str, played: list[dict[str, Any]], video: Path | None, as_json: bool) -> None:
    if as_json:
        emit_json(
            {"command": "play", "env": env_id, "episodes": played, "video": None if video is None else str(video)}
        )
        return
    for row in played:
        success = row.get("info", {}).get("success")
        outcome = "" if success is None else ("   success" if success else "   failed")
        state = outcome if row["ended"] else "   not finished"
        text = f"episode {row['episode']}: {row['steps']} steps, return {row['return']:.3f}{state}"
        stdout.print(text, markup=False, highlight=False)
    if video is not None:
        stdout.print(f"written to {video}", markup=False, highlight=False, soft_wrap=True)
