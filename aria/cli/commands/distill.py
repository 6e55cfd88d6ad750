"""``aria distill``: train a student to agree with its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from aria.cli.errors import refusals
from aria.progress import bar, silent


class Distill(click.Command):
    """A command whose options are the settings of a run, read when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self.params, *_options(), self.get_help_option(ctx)]  # type: ignore[list-item]


def _options() -> Iterable[click.Option]:
    from aria.distill.settings.config import settings

    for one in settings():
        wanted, _, several = one.kind
        yield click.Option(
            [f"--{one.name}/--no_{one.name}" if wanted is bool else f"--{one.name}"],
            type=None if wanted is bool else wanted,
            multiple=several,
            default=None,
            help=f"{one.about.help}{_shown(one.default)}",
        )


def _shown(default: Any) -> str:
    if default in (None, "", ()):
        return ""
    return f"  [default: {' '.join(default) if isinstance(default, tuple) else default}]"


@click.command(cls=Distill)
@click.option("--config", "path", type=click.Path(path_type=Path), help="A YAML, TOML or JSON file of settings.")
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="A setting by its plain or dotted name.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def command(path: Path | None, more: tuple[str, ...], quiet: bool, **flags: Any) -> None:
    """Train a student to answer as its teacher does, on conditions allocated where it does not yet.

    Teacher, student, prompts and output folder must be given. Flags win over --set, and --set over the file. Run the
    same command again to go on where it stopped.
    """
    with refusals(flags.get("output_dir") or "the output folder"):
        from aria.distill.settings.config import Config

        config = Config.read(path) if path else Config()
        config = config.with_values(dict(_pair(text) for text in more))
        config = config.with_values({name: value for name, value in flags.items() if value not in (None, ())})
    _run(config, quiet)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    import yaml

    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"--set {name}: {value!r} cannot be read as YAML") from None


def _run(config: Any, quiet: bool) -> None:
    import torch

    from aria.distill.engine.distiller import NonFiniteLoss
    from aria.distill.runs.run import run

    if quiet:
        _no_bars()
    with refusals(config.run.output_dir):
        try:
            distiller = run(config, bar=silent if quiet else bar, quiet=quiet)
        except NonFiniteLoss as error:
            raise click.ClickException(str(error)) from error
        except torch.OutOfMemoryError as error:
            raise click.ClickException(_out_of_memory(config, error)) from error
    if not distiller.accelerator.is_main_process:
        return  # with exit code 0: launchers end all others when one fails, and the first may not be done
    if distiller.step_count < distiller.steps:
        click.echo(f"stopped at step {distiller.step_count} of {distiller.steps}; the same command goes on", err=True)
        raise click.exceptions.Exit(128 + distiller.stopped_by)  # as if the signal had ended it
    if not quiet:
        click.echo("the pipeline is written: `aria sample` draws from it, `aria report` shows the run", err=True)
    click.echo(config.run.output_dir)


def _out_of_memory(config: Any, error: Exception) -> str:
    training = config.training
    return (
        f"out of memory with train_batch_size={training.train_batch_size}: halve it and double "
        f"gradient_accumulation_steps ({training.gradient_accumulation_steps}) for the same result, or use "
        "--gradient_checkpointing, --mixed_precision bf16, --no_use_ema or a smaller --cache_memory_gb"
    )


def _no_bars() -> None:
    """The libraries below draw bars of their own."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
