"""Options that a suite adds to ``eval``: declared by the suite, parsed and shown in its help like any other.

A suite lists `evaluation.suite.Option`; each becomes a keyword argument of the suite's environments.
"""

from __future__ import annotations

import inspect
from typing import Any

import typer
from typer.core import TyperCommand

CHOSEN = "suite_options"
"""Key in the context's meta under which the given options lie."""


class SuiteCommand(TyperCommand):
    """A command whose options depend on which suite is named among its arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the options of the suite that is named, then parse as usual."""
        self.params = [*self.params, *_options(args)]
        return super().parse_args(ctx, args)


def chosen(ctx: typer.Context) -> dict[str, Any]:
    """Return the suite's options that were given, as keyword arguments of its environments."""
    return dict(ctx.meta.get(CHOSEN, {}))


def _options(args: list[str]) -> list[Any]:
    words = [word for word in args if not word.startswith("-")]
    if not words:
        return []
    from embodied_mem import registry
    from embodied_mem.cli import video_suite
    from embodied_mem.evaluation.question_suite import load_question_suite
    from embodied_mem.evaluation.suite import Option, load_suite

    tasks, questions = set(registry.names("suite")), set(registry.names("question_suite"))
    named = next((word for word in words if word in tasks | questions or word.startswith(video_suite.PREFIX)), None)
    options: tuple[Option, ...] = ()
    if named in questions:
        options = load_question_suite(named).options
    elif named in tasks:
        options = load_suite(named).options
    elif named is not None:
        options = video_suite.OPTIONS
    if not options:
        return []

    def carrier(**given: Any) -> None:
        """Carry the options of a suite."""

    # A throw-away command: its parameters are built by typer itself, whatever classes its version has for them.
    signature = [
        inspect.Parameter(
            f"suite_{option.key}",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=(list[str] if option.kind is list else option.kind) | None,
            default=typer.Option(
                None,
                option.flag,
                help=f"{option.about} (suite {named})",
                expose_value=False,
                callback=_keep(option.key),
            ),
        )
        for option in options
    ]
    carrier.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    carrier.__annotations__ = {item.name: item.annotation for item in signature}
    app = typer.Typer(add_completion=False)
    app.command()(carrier)
    return [item for item in typer.main.get_command(app).params if str(item.name).startswith("suite_")]


def _keep(key: str) -> Any:
    def keep(ctx: typer.Context, value: Any) -> Any:
        if value is not None and value != []:
            ctx.meta.setdefault(CHOSEN, {})[key] = value
        return value

    return keep
