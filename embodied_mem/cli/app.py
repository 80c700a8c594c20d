"""Entry point of ``embodied-mem``: finds the commands, and turns a user's error into one line and exit code 2."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import sys
from collections.abc import Sequence

import typer

import embodied_mem.cli
from embodied_mem._version import __version__
from embodied_mem.errors import UsageError

# typer carries its own click in newer versions: the base class is found through typer's public BadParameter.
_ClickError = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
# What the system says when the disk is full, read-only or not ours, even where it names no file.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR})


def build_app() -> typer.Typer:
    """Return the typer app with every command of this package (a module with ``register(app)`` is a command)."""
    app = typer.Typer(
        name="embodied-mem",
        help="Embodied agents that must remember: train, evaluate, look.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", help="Print the version and stop.", callback=_print_version),
    ) -> None:
        """Embodied agents that must remember: train, evaluate, look."""

    for found in pkgutil.iter_modules(embodied_mem.cli.__path__):
        module = importlib.import_module(f"embodied_mem.cli.{found.name}")
        if hasattr(module, "register"):
            module.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when the work was done, 2 on a usage or input error, 130 on Ctrl-C."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `main`)."""
    command = typer.main.get_command(build_app())
    try:
        code = command.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except UsageError as error:
        return _fail(str(error))
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2
        return _fail(error.format_message())  # type: ignore[attr-defined]
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        place = error.filename2 or error.filename
        if error.errno is None or (place is None and error.errno not in _DISK_ERRORS):
            raise
        what = "write" if error.errno in _DISK_ERRORS else "read or write"
        return _fail(f"cannot {what} {place or 'output'}: {error.strerror}")
    return code if isinstance(code, int) else 0


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"embodied-mem {__version__}")
        raise typer.Exit()


def _fail(message: str) -> int:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
