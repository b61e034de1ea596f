"""dreamloopd: the daemon in the foreground. `python -m daemon` is the same."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Literal

import click

from daemon.errors import ConfigError, DreamloopError

Format = Literal["auto", "console", "json"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), default=Path("config.toml"), show_default=True,
              help="The configuration file.")  # fmt: skip
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept; overrides [daemon] state.",
)
@click.option(
    "--cycles", type=click.IntRange(min=1), help="End after this many full cycles, with a report on sealed probes."
)
@click.option("--placebo", is_flag=True, help="Compute updates from shuffled labels: the gate should promote nothing.")
@click.option("--log-format", type=click.Choice(["auto", "console", "json"]), help="Overrides [daemon] log_format.")
@click.option("--no-view", is_flag=True, help="Structured logs even in a terminal, instead of the live view.")
@click.version_option("0.1.0", prog_name="dreamloopd")
def main(
    file: Path,
    state: Path | None,
    cycles: int | None,
    placebo: bool,
    log_format: Format | None,
    no_view: bool,
) -> None:
    """Keep training a model from its own conversations, and measure whether that helped.

    Runs in the foreground until Ctrl-C and goes on where it stopped when started again. `dreamctl` operates it.
    """
    try:
        from daemon.config import load

        config = load(file, state=state)
        from daemon import logs
        from daemon.app import App

        view = sys.stdout.isatty() and not no_view and log_format is None
        try:
            config.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{config.state}: cannot be made ({error.strerror}); choose another --state") from error
        with contextlib.ExitStack() as open_files:
            # the live view has the terminal to itself; what would have been printed lies beside the state
            stream = open_files.enter_context((config.state / "dreamloopd.log").open("a")) if view else None
            logs.configure(config.daemon.log_level, log_format or config.daemon.log_format, stream=stream)
            status = App(config, cycles=cycles, placebo=placebo, view=view).run()
        sys.exit(status)
    except DreamloopError as error:
        click.echo(f"dreamloopd: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
