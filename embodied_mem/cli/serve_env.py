"""``embodied-mem serve-env``: an environment for clients in other processes, Pythons or machines."""

from __future__ import annotations

import typer

from embodied_mem.cli.serve import run_server


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command("serve-env")
    def serve_env(
        env: str = typer.Argument(..., help="Gymnasium id, for example House-ObjectNav-v0."),
        option: list[str] = typer.Option([], "--env-option", help="key=value for the environment; repeatable."),
        client_options: bool = typer.Option(False, "--client-options", help="Let clients give keywords of their own."),
        host: str = typer.Option("127.0.0.1", "--host", help="Address; any but loopback needs EMBODIED_MEM_TOKEN."),
        port: int = typer.Option(8766, "--port", help="Port; 0 takes a free one."),
        rows: int = typer.Option(64, "--rows", help="Rows over all clients."),
        clients: int = typer.Option(8, "--clients", help="Clients at a time."),
        idle: float = typer.Option(600.0, "--idle", help="Seconds of silence after which a client is dropped."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout once clients can connect."),
    ) -> None:
        """Serve an environment until Ctrl-C; clients make it as remote:ws://HOST:PORT."""
        from embodied_mem.config import parse_overrides
        from embodied_mem.envs.remote.server import env_server
        from embodied_mem.wire.server import token_from_environment

        server = env_server(
            env,
            parse_overrides(option),
            client_options=client_options,
            rows=rows,
            clients=clients,
            host=host,
            port=port,
            idle_s=idle,
            token=token_from_environment(),
        )
        run_server(server, env, as_json)
