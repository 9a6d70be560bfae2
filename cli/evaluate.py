"""``robustmix eval``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from robustmix.cli import completion, console
from robustmix.cli.arguments import ASIDE
from robustmix.cli.loggers import LogOption, opened_log, without_log
from robustmix.cli.model_options import PANEL, ModelOptions, takes_model_options
from robustmix.cli.options import parse_limit, split_names
from robustmix.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from robustmix.evaluation.evaluation import Evaluation
    from robustmix.evaluation.forecast import Forecast
    from robustmix.loggers.events import Hook
    from robustmix.report.report import Report

MORE_HELP = """
`robustmix eval --help SUITE` shows the options of a suite, `--help model` those of foreign
checkpoints, `--help-all` everything. An option acts on every suite of the run that has it.
"""


@takes_model_options()
def evaluate(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="Checkpoint, folder, or a name (robustmix list models)."
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="Suites, e.g. clean,fgsm, or all.",
            autocompletion=completion.complete(completion.suites, several=True),
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Named options of several suites, e.g. standard; --suite then chooses.",
            autocompletion=completion.complete(completion.protocols, several=True),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set [default: the checkpoint's].",
            autocompletion=completion.complete(completion.datasets),
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take a part of a data set.")
    ] = False,
    limit: Annotated[str | None, typer.Option(help="So many (500) or that share (0.1).")] = None,
    batch_size: Annotated[
        str,
        typer.Option(metavar="<N>|auto", help="Images a pass [default: auto].", show_default=False),
    ] = "auto",
    image_memory: Annotated[
        int | None,
        typer.Option(help="MiB of decoded files [default: 1024]."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, tf32 or bf16 [default: fp32].", show_default=False)
    ] = "fp32",
    seed: Annotated[
        int, typer.Option(help="Of everything random [default: 0].", show_default=False)
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report [default: a new one in runs/].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the report.")] = None,
    shard: Annotated[str | None, typer.Option(help="Share I/N of the images, or auto.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the evaluation in --out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run what else can begin.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would run, and how long."),
    ] = False,
    log: LogOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report, not its path.")] = False,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    *,
    model_options: ModelOptions,
    help: Annotated[bool, typer.Option("--help", "-h", help="Show this.")] = False,
    help_all: Annotated[
        bool, typer.Option("--help-all", help="Show every option of every suite.")
    ] = False,
) -> None:
    """Evaluate a classifier; writes report.json and the per-sample record samples.npz.

    The path of the report is printed on stdout.
    """
    if help or help_all:
        _show_help(context, words or [], everything=help_all)
        return
    if resume and out is not None:
        from robustmix.evaluation.evaluate import require_recorded

        require_recorded(out)  # before its options, which nobody knows where it is not
    names = split_names(suite or [])
    own = [flag for parameter in context.command.params for flag in parameter.opts]
    from robustmix.cli.suite_options import split_words

    given, options = split_words(words or [], names, own)
    if len(given) != 1:
        raise _not_one_model(given, names)
    count = None if limit is None else parse_limit(limit)
    said = without_log(context.obj)
    own_words = [a for a in said if a not in {"--json", "--force", "--resume", *ASIDE}]
    asked: dict[str, object] = {"arguments": own_words}
    on_event = _on_event(log, shard)
    place = _place(Path(given[0]).stem, asked, out=out, shard=shard, resume=resume, force=force)

    console.starting(f"evaluating {given[0]}")
    from robustmix.environment import choose_device
    from robustmix.evaluation.block_order import checked_image_memory
    from robustmix.evaluation.engine import read_batch_size
    from robustmix.evaluation.evaluate import evaluate as run_evaluation
    from robustmix.evaluation.evaluate import exit_code
    from robustmix.evaluation.forecast import forecast
    from robustmix.evaluation.plan import plan
    from robustmix.evaluation.prepare import prepare
    from robustmix.evaluation.progress import open_progress
    from robustmix.precision import checked_precision
    from robustmix.progress import progress_kind
    from robustmix.report.terminal import Summary, error_lines, note_lines, warning_lines

    protocols = split_names(protocol or [])
    # Asked once before the model is read: a wrong name or value should not wait for that.
    plan(names or None, protocols=protocols, options=options)
    size = read_batch_size(batch_size)
    checked_precision(precision, choose_device(device))
    shown = open_progress(progress_kind("none" if place.quiet else progress), console.talk())
    robust = model_options.load(given[0])
    if dry_run:
        shown.close()
        evaluation = prepare(
            robust,
            dataset,
            names or None,
            protocols=protocols,
            options=options,
            data_dir=data_dir,
            limit=count,
            device=device,
            precision=precision,
            seed=seed,
            keep_going=keep_going,
            allow_partial=allow_partial,
            allow_download=model_options.allow_download,
            transform=model_options.preparation(),
            override_checkpoint=model_options.override_checkpoint,
            shard=place.shard,
        )
        checked_image_memory(image_memory, evaluation.data.pixels)
        _show_forecast(
            evaluation,
            forecast(evaluation, batch_size=size or evaluation.usual_batch),
            json=json,
        )
        return
    try:
        report = run_evaluation(
            robust,
            dataset,
            names or None,
            protocol=protocols,
            data_dir=data_dir,
            limit=count,
            batch_size=size,
            image_memory=image_memory,
            device=device,
            precision=precision,
            seed=seed,
            out=place.folder,
            resume=resume,
            force=force,
            keep_going=keep_going,
            allow_partial=allow_partial,
            allow_download=model_options.allow_download,
            name=name,
            argv=list(context.obj),
            resize=model_options.resize,
            crop_pct=model_options.crop_pct,
            interpolation=model_options.interpolation,
            crop_mode=model_options.crop_mode,
            override_checkpoint=model_options.override_checkpoint,
            shard=place.shard,
            progress=shown,
            on_event=on_event if place.gathered is None else None,
            **cast(dict[str, Any], options),
        )
    finally:
        shown.close()
    if place.gathered is not None and exit_code(report) == 0:
        if place.quiet:
            return
        report = _gathered(report, place.gathered, on_event)
    console.say(Summary(report))
    for line in (*note_lines(report), *warning_lines(report, most=console.most_warnings())):
        console.say(line)
    for line in error_lines(report):
        console.error(line)
    written = (place.gathered or place.folder) / "report.json"
    console.result(report.to_json().rstrip("\n") if json else str(written))
    raise typer.Exit(exit_code(report))


def _not_one_model(given: list[str], names: list[str]) -> UsageError:
    from robustmix.evaluation.suites.registry import suite_names

    known = suite_names()
    meant = [one for word in given for one in split_names([word]) if one in known]
    wanted = ",".join(dict.fromkeys([*names, *meant])) if meant else "clean,fgsm"
    return UsageError(
        "expected one model" + (f", got {' '.join(given)}" if given else ""),
        f"robustmix eval MODEL --suite {wanted}",
    )


@dataclass(frozen=True)
class _Place:
    """Where this process writes, and what of."""

    folder: Path
    shard: str | None = None
    gathered: Path | None = None
    """Where the shards of a launch by torchrun are joined."""

    quiet: bool = False
    """Whether another process of the launch does the talking."""


def _place(
    model: str,
    asked: dict[str, object],
    *,
    out: Path | None,
    shard: str | None,
    resume: bool,
    force: bool,
) -> _Place:
    """Decide where to write; processes that torchrun started together take a shard each."""
    from robustmix.evaluation.shard import shard_of_launch
    from robustmix.launch import refuse_unlaunched
    from robustmix.runs import evaluation_folder

    if shard is None:
        refuse_unlaunched("take a share with --shard auto, or start with torchrun")
    share = shard_of_launch() if shard is None else None
    if share is None:
        return _Place(out or evaluation_folder(model, asked, earlier=resume), shard)
    if out is None:
        raise UsageError(
            "processes of one launch share a folder", "name it with --out", code="E-LAUNCH"
        )
    from robustmix.comparison.gather import shard_folder
    from robustmix.evaluation.evaluate import refuse_existing

    if not (resume or force):
        refuse_existing(out)
    return _Place(shard_folder(out, *share), "/".join(map(str, share)), out, share[0] > 1)


def _on_event(log: list[str] | None, shard: str | None) -> "Hook | None":
    """Return who is told of the evaluation."""
    found = opened_log(log)
    if found is not None and shard is not None:
        raise UsageError(
            "--log has nothing to log with --shard, for numbers are made of all shards",
            "leave it out, or start with torchrun, which joins them",
            code="E-UNUSED-OPTION",
        )
    return found


def _gathered(own: "Report", folder: Path, on_event: "Hook | None") -> "Report":
    """Join the shards of a launch, and tell of the whole."""
    from robustmix.comparison.gather import gather_shards
    from robustmix.evaluation.telling import tell_report

    report = gather_shards(own, folder)
    if on_event is not None:
        tell_report(on_event, report, folder)
    return report


def _show_help(context: typer.Context, words: list[str], *, everything: bool) -> None:
    """Show the help of the command, of some suites, or all there is."""
    from robustmix.cli.suite_options import options_table
    from robustmix.evaluation.suites.registry import suite_names

    named = [word for word in words if not (Path(word).exists() or Path(word).suffix)]
    if named and not everything:  # not a model's file, with which --help was typed
        for word in split_names(named):
            if word == "model":
                console.table_result(_model_table(context))
            else:
                console.table_result(options_table(word))
        return
    for parameter in context.command.params:
        if _of_model(parameter):
            parameter.hidden = True  # type: ignore[attr-defined] # shown by themselves: most files say what they are
    console.result(context.get_help().rstrip())
    if everything:
        console.table_result(_model_table(context))
        for name in suite_names():
            console.table_result(options_table(name))


def _model_table(context: typer.Context) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title="What a model file is, if it does not say", title_justify="left"
    )
    table.add_column("option", no_wrap=True)
    table.add_column("what it is")
    for parameter in context.command.params:
        if _of_model(parameter):
            table.add_row(parameter.opts[0], getattr(parameter, "help", ""))
    return table


def _of_model(parameter: object) -> bool:
    return getattr(parameter, "rich_help_panel", None) == PANEL


def _show_forecast(evaluation: "Evaluation", found: "Forecast", *, json: bool) -> None:
    from robustmix.evaluation.forecast import forecast_lines, forecast_table
    from robustmix.files import canonical_json

    if json:
        sums = {"seconds": found.seconds, "usual_s": found.usual_s}
        console.result(canonical_json({**asdict(found), **sums}))
        return
    console.table_result(forecast_table(found))
    for line in forecast_lines(evaluation, found):
        console.result(line)
