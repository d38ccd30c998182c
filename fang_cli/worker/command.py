"""Defines ``fang worker``."""

import sys
from math import inf
from typing import Final

import click

from fang_cli import arguments
from fang_cli.ending import let_signals_in
from fang_cli.settings import settings
from fang_cli.worker.serving import LOOPBACK, Ports, check_extra
from fang_cli.worker.supervised import SupervisorLink
from fang_core.errors import UsageError

PORT: Final = click.IntRange(min=0, max=65_535)


@click.command()
@click.argument("pools", nargs=-1, metavar="[MODULE:POOL]...")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    help="The lowest level that is logged to stderr (default: info); if the application has configured logging, "
    "the level of Fang's own loggers.",
)
@click.option("--log-tracebacks", is_flag=True, help="Log the traceback of each failed run; it may quote payloads.")
@click.option(
    "--wait-for-database",
    metavar="SECONDS",
    callback=arguments.seconds,
    default="30",
    show_default=True,
    help="How long to wait at the start for a database that does not answer yet.",
)
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1, max=1_000),
    help="Run the pools in each of N processes, under a supervisor that restarts those that die or hang.",
)
@click.option(
    "--max-tasks",
    metavar="M",
    type=click.IntRange(min=1),
    help="With --processes: replace a process that has run M tasks, or up to a tenth more.",
)
@click.option(
    "--max-memory",
    metavar="SIZE",
    callback=arguments.size,
    help="With --processes: replace a process that takes more memory, as in 500M or 2G.",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="Replace the processes (one, without --processes) whenever Python code below the working directory changes; "
    "for development.",
)
@click.option(
    "--metrics-port",
    metavar="PORT",
    type=PORT,
    help="Answer /metrics for Prometheus at this port; 0 is any free one.",
)
@click.option(
    "--probe-port",
    metavar="PORT",
    type=PORT,
    help="Answer /live and /ready for probes; it may be the same port.",
)
@click.option("--bind", metavar="ADDRESS", help=f"The address of these ports, 0.0.0.0 for all (default: {LOOPBACK}).")
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    pools: tuple[str, ...],
    log_level: str | None,
    log_tracebacks: bool,
    wait_for_database: float,
    processes: int | None,
    max_tasks: int | None,
    max_memory: int | None,
    reloads: bool,
    metrics_port: int | None,
    probe_port: int | None,
    bind: str | None,
) -> None:
    """Run pools, as in app.tasks:pool, until SIGTERM or Ctrl-C.

    Runs in progress then have the grace period of their pool; a second signal ends the process at once.

    With --reload, code that cannot be imported does not end it: it waits for the next change.

    With --processes the supervisor also takes SIGHUP, which replaces the processes one after the other, with the code
    as it is then; SIGTTIN, which adds a process; and SIGTTOU, which removes one.

    Exit codes: 0 if every run has ended; 75 if some had not ended in the grace period, and run again elsewhere; 71 if
    more runs were stuck than the pool's max_stuck allows; 70 if the processes of a supervisor died too often.
    """
    supervisor = SupervisorLink.from_environment()
    if supervisor is None:  # to a process of its own a supervisor says everything
        chosen = settings()
        pools, log_level = pools or chosen.pools, log_level or chosen.log_level
        processes = processes or chosen.processes
        max_tasks, max_memory = max_tasks or chosen.max_tasks, max_memory or chosen.max_memory
        metrics_port = chosen.metrics_port if metrics_port is None else metrics_port
        probe_port = chosen.probe_port if probe_port is None else probe_port
        bind = bind or chosen.bind
        processes = processes or (1 if reloads else None)
        if processes is None and (max_tasks is not None or max_memory is not None):
            raise UsageError("--max-tasks and --max-memory need --processes N: its supervisor replaces a process")
    ports = Ports(bind or LOOPBACK, metrics_port, probe_port, is_supervised=supervisor is not None)
    check_extra(ports)
    if not pools:
        raise UsageError("name the pools, as in fang worker app.tasks:pool; or set pools in [tool.fang]")
    if supervisor is None and processes is not None:
        options = ["--wait-for-database", str(wait_for_database)]
        options += ["--log-level", log_level] if log_level is not None else []
        options += ["--log-tracebacks"] if log_tracebacks else []
        ctx.exit(
            _supervise(
                pools,
                options,
                processes,
                max_tasks=max_tasks,
                max_memory=max_memory,
                log_level=log_level,
                ports=ports,
                reloads=reloads,
            )
        )
    let_signals_in()
    from fang_cli.worker.running import run_worker

    ctx.exit(
        run_worker(
            pools,
            log_level,
            log_tracebacks=log_tracebacks,
            wait_for_database=wait_for_database,
            supervisor=supervisor,
            ports=ports,
        )
    )


def _supervise(
    pools: tuple[str, ...],
    options: list[str],
    processes: int,
    *,
    max_tasks: int | None,
    max_memory: int | None,
    log_level: str | None,
    ports: Ports,
    reloads: bool,
) -> int:
    """Runs the pools in processes of their own; ``options`` are those of each process. Returns the exit code."""
    if sys.platform == "win32":
        option = "--reload" if reloads else "--processes"
        other = "again after a change" if reloads else "several times"
        raise UsageError(f"{option} needs signals, which Windows lacks: start `fang worker` {other}")
    from fang_cli.supervisor import reloading
    from fang_cli.supervisor.process_group import Limits
    from fang_cli.supervisor.supervisor import run_supervisor

    limits = Limits(max_tasks or inf, max_memory or inf)
    watched = reloading.Reloading(reloading.directories_of(pools)) if reloads else None
    return run_supervisor([*pools, *options], processes, limits, log_level, ports, reloading=watched)
