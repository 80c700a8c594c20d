"""Options that a suite adds to ``eval``: declared by the suite, parsed and shown in its help like any other.

A suite lists `evaluation.suite.Option`; each becomes a keyword argument of the suite's environments.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

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


def _options(args: list[str]) -> list[TyperOption]:
    from embodied_mem import registry
    from embodied_mem.evaluation.suite import load_suite

    known = set(registry.names("suite"))
    named = next((word for word in args if word in known), None)
    if named is None:
        return []
    return [
        TyperOption(
            param_decls=[f"suite_{option.key}", option.flag],
            type=option.kind,
            help=f"{option.about} (suite {named})",
            expose_value=False,
            callback=_keep(option.key),
        )
        for option in load_suite(named).options
    ]


def _keep(key: str) -> Any:
    def keep(ctx: typer.Context, parameter: Any, value: Any) -> Any:
        if value is not None:
            ctx.meta.setdefault(CHOSEN, {})[key] = value
        return value

    return keep
