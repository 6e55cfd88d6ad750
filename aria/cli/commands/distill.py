"""``aria distill``: train a student to match its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from aria import specs
from aria.cli import tables
from aria.cli.errors import refusals
from aria.distill.settings import checks
from aria.distill.settings.choices import AUTO
from aria.distill.settings.config import Config, Setting, sections, settings
from aria.progress import bar, silent


class Distill(click.Command):
    """A command whose options are the settings of a run, declared in :mod:`aria.distill.settings`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self.params, *map(_option, settings()), self.get_help_option(ctx)]  # type: ignore[list-item]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command itself, then those of each section under its heading."""
        for heading, options in self.groups(ctx):
            with formatter.section(heading):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def groups(self, ctx: click.Context) -> Iterator[tuple[str, list[click.Parameter]]]:
        """Options under their headings: the command's own, then those of each section of the settings."""
        yield "Options", [*self.params, self.get_help_option(ctx)]  # type: ignore[list-item]
        for section, about in sections().items():
            yield about.rstrip("."), [_option(one) for one in settings() if one.section == section]


def _option(setting: Setting) -> click.Option:
    wanted, _, several = setting.kind
    return click.Option(
        [f"--{setting.name}/--no_{setting.name}" if wanted is bool else f"--{setting.name}"],
        type=None if wanted is bool else wanted,
        multiple=several,
        default=None,
        help=f"{setting.about.help}{_shown(setting.default)}",
        shell_complete=partial(_complete, setting),
    )


def _shown(default: Any) -> str:
    if default in (None, "", ()):
        return ""
    return f"  [default: {' '.join(default) if isinstance(default, tuple) else default}]"


def _complete(setting: Setting, ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """The values of a setting that begin with what is typed; file names for a setting that is a place."""
    about = setting.about
    known = list(about.choices)
    if about.part is not None:
        known += [*specs.available(specs.kind_called(about.part)), *([AUTO] if about.part == "partitioner" else [])]
    if not known and about.place is not None:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(value) for value in known if value.startswith(incomplete)]


@click.command(cls=Distill)
@click.option("--config", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="A YAML, TOML or JSON file of settings.")  # fmt: skip
@click.option("--allow_imports", is_flag=True,
              help="Let the file of --config name classes in modules and Python files: their code runs.")  # fmt: skip
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE",
              help="A setting by its plain or dotted name, such as allocation.floor=0.3; may be repeated.")  # fmt: skip
@click.option("--dry_run", is_flag=True, help="Show what would be done and estimate the memory, without training.")
@click.option("--quiet", is_flag=True, help="Hide the summary and all progress bars.")
def command(
    path: Path | None, allow_imports: bool, more: tuple[str, ...], dry_run: bool, quiet: bool, **flags: Any
) -> None:
    """Train a student to match its teacher, with most steps on the conditions where the two still disagree.

    Teacher, student, prompts and output folder are required. Flags take precedence over --set, and --set over the file.
    Run the same command again to continue where it stopped.
    """
    with refusals(flags.get("output_dir") or "the output folder"):
        config = Config.read(path, allow_imports=allow_imports) if path else Config()
        config = config.with_values(dict(_pair(text) for text in more))
        config = config.with_values({name: value for name, value in flags.items() if value not in (None, ())})
        checks.check(config)
    _dry_run(config) if dry_run else _run(config, quiet)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    import yaml

    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"--set {name}: {value!r} cannot be read as YAML") from None


def _dry_run(config: Any) -> None:
    from aria.distill.runs.run import dry_run

    _hide_bars_of_libraries()
    with refusals(config.run.output_dir):

        tables.echo(dry_run(config))


def _run(config: Any, quiet: bool) -> None:
    import torch

    from aria.distill.engine.distiller import NonFiniteLoss
    from aria.distill.runs.run import run

    _hide_bars_of_libraries()
    with refusals(config.run.output_dir):
        try:
            distiller = run(config, bar=silent if quiet else bar, show=None if quiet else _show, quiet=quiet)
        except NonFiniteLoss as error:
            raise click.ClickException(str(error)) from error
        except torch.OutOfMemoryError as error:
            raise click.ClickException(_out_of_memory(config, error)) from error
    if not distiller.accelerator.is_main_process:
        return  # with exit code 0: launchers end all others when one fails, and the first may not be done
    if distiller.step_count < distiller.steps:
        where = f"step {distiller.step_count} of {distiller.steps}"
        tables.echo(f"stopped at {where}; run the same command to resume", err=True)
        raise click.exceptions.Exit(128 + distiller.stopped_by)  # as if the signal had ended it
    if not quiet:
        tables.echo("the pipeline is written: `aria sample` generates images, `aria report` draws the run", err=True)
    tables.echo(config.run.output_dir)


def _show(lines: str) -> None:
    tables.echo(lines, err=True)


def _out_of_memory(config: Any, error: Exception) -> str:
    training = config.training
    return (
        f"out of memory with train_batch_size={training.train_batch_size}: halve it and double "
        f"gradient_accumulation_steps ({training.gradient_accumulation_steps}) for the same result, or use "
        "--gradient_checkpointing, --mixed_precision bf16, --no_use_ema or a smaller --cache_memory_gb"
    )


def _hide_bars_of_libraries() -> None:
    """diffusers and transformers draw progress bars of their own while they open a pipeline."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
