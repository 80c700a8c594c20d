"""``embodied-mem serve``: a trained agent behind a WebSocket, one row of memory per client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from embodied_mem.cli.output import console, emit_json
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def serve(
        checkpoint: Path | None = typer.Argument(None, help="Folder of a trained agent or of a run."),
        agent: str | None = typer.Option(None, "--agent", help="Registered agent, or module:attr; needs --env."),
        env: str | None = typer.Option(None, "--env", help="Environment that --agent is made for."),
        option: list[str] = typer.Option([], "--env-option", help="key=value for that environment; repeatable."),
        host: str = typer.Option("127.0.0.1", "--host", help="Address; any but loopback needs EMBODIED_MEM_TOKEN."),
        port: int = typer.Option(8765, "--port", help="Port; 0 takes a free one."),
        rows: int = typer.Option(8, "--rows", help="Clients at a time."),
        exact: bool = typer.Option(
            True, "--exact/--waiting-only", help="Forward all rows, so that no bit depends on the others, or fewer."
        ),
        sample: bool | None = typer.Option(None, "--sample/--mode", help="Draw actions, or the most likely one."),
        idle: float = typer.Option(300.0, "--idle", help="Seconds of silence after which a client loses its row."),
        device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:i."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout once clients can connect."),
    ) -> None:
        """Serve an agent to clients on this or other machines until Ctrl-C."""
        from embodied_mem.policies.serve.server import PolicyServer
        from embodied_mem.wire.server import token_from_environment

        if (checkpoint is None) == (agent is None) or (agent is None) != (env is None):
            raise UsageError("expected a folder of a trained agent, or --agent NAME with --env ID")
        found = _trained(checkpoint, device, sample) if checkpoint is not None else _named(str(agent), str(env), option)
        server = PolicyServer(
            *found[:3],
            about=found[3],
            rows=rows,
            exact=exact,
            host=host,
            port=port,
            idle_s=idle,
            token=token_from_environment(),
        )
        run_server(server, str(checkpoint or agent), as_json)


def run_server(server: Any, what: str, as_json: bool) -> None:
    """Run a `WireServer` until Ctrl-C; say where it listens."""

    def started() -> None:
        if as_json:
            emit_json({"address": server.address, "serves": what})
        console.print(f"serving {what} at {server.address}; Ctrl-C ends it", markup=False, soft_wrap=True)

    server.run(started)


def _trained(folder: Path, device: str, sample: bool | None) -> tuple[Any, ...]:
    from embodied_mem.agent import CONFIG_FILE, find_bundle, load_agent
    from embodied_mem.devices import resolve_device
    from embodied_mem.files import read_json

    agent = load_agent(folder, resolve_device(device), deterministic=None if sample is None else not sample)
    about = dict(read_json(find_bundle(folder) / CONFIG_FILE).get("about") or {})
    # Most agents in folders are a module in an Agent's form; others say themselves what they read and play.
    owner: Any = getattr(agent, "module", agent)
    spaces = [getattr(owner, name, None) for name in ("observation_space", "action_space")]
    if None in spaces:
        raise UsageError(f"the agent in {folder} does not say its spaces; give --agent module:attr and --env ID")
    memory = getattr(getattr(owner, "config", None), "memory", None)
    return agent, *spaces, about if memory is None else {**about, "memory": str(memory)}


def _named(agent: str, env_id: str, options: list[str]) -> tuple[Any, ...]:
    from contextlib import closing

    from embodied_mem.config import parse_overrides
    from embodied_mem.evaluation.casting import make_env
    from embodied_mem.evaluation.sources import from_name
    from embodied_mem.evaluation.suite import Task

    keywords = parse_overrides(options)
    task = Task(env_id, "probe", kwargs=keywords)
    with closing(make_env(task, 1)) as env:
        made = from_name(agent).make(task, env)
        return made, env.single_observation_space, env.single_action_space, {"env": env_id, "env_config": keywords}
