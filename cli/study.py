"""``robustmix study``: tables of runs as files that run."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from robustmix.cli import completion, console
from robustmix.cli.arguments import split_arguments
from robustmix.cli.loggers import LogOption, opened_log
from robustmix.cli.options import parse_limit, parse_seeds, split_names
from robustmix.cli.study_tables import amount, counted, failures, hours, state_table
from robustmix.cli.table import (
    Format,
    Out,
    PrintedToo,
    Significance,
    Sort,
    format_of,
    show_table,
)
from robustmix.errors import UsageError, unknown_name
from robustmix.progress import progress_kind

if TYPE_CHECKING:
    from robustmix.studies.grid import StudyRun
    from robustmix.studies.run_state import RunState
    from robustmix.studies.study import Study

study = typer.Typer(
    help="Run a whole table of the papers, or your own: resume it, see it beside what was printed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


StudyName = Annotated[
    str,
    typer.Argument(
        help="A packaged study (robustmix study list) or a TOML file.",
        autocompletion=completion.complete(completion.studies),
    ),
]
StudyFolder = Annotated[Path, typer.Argument(help="The --out of robustmix study run.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@study.command("list")
def list_studies(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the packaged studies: runs, steps, forward passes, GPU hours, data they lack here."""
    from robustmix.studies.study import packaged_studies, read_study

    found = [_costs(read_study(name), data_dir) for name in packaged_studies()]
    if as_json:
        console.result(json.dumps(found, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("study", "what"):
        table.add_column(name, overflow="fold")
    for name in ("runs", "steps", "passes", "GPU h"):
        table.add_column(name, justify="right")
    for one in found:
        lacks = f"  (lacks {', '.join(one['missing'])})" if one["missing"] else ""
        table.add_row(
            one["name"],
            one["title"] + lacks,
            str(one["runs"]),
            amount(one["steps"]),
            amount(one["passes"]),
            hours(one["gpu_hours"]),
        )
    console.table_result(table)
    console.say(_HOURS)


_HOURS = (
    "Of training, all seeds. Passes are forward passes of an image, a backward pass counting two. "
    "GPU hours are passes at 300 TFLOP/s, which nobody reaches: take 5 to 20 times as many for "
    "small images until you have measured."
)


def _costs(study: "Study", data_dir: Path | None) -> dict[str, Any]:
    from robustmix.studies.cost import total_cost
    from robustmix.studies.data import lacking_data
    from robustmix.studies.grid import study_runs

    # Seeds cost the same, and are too many to be looked at one by one.
    runs, times = study_runs(study.model_copy(update={"seeds": study.seeds[:1]})), len(study.seeds)
    cost = total_cost(runs) * times
    return {
        "name": study.name,
        "title": study.title,
        "source": study.source,
        "runs": times * len({run.name for run in runs}),
        "seeds": list(study.seeds),
        "steps": cost.steps,
        "passes": cost.passes,
        "gpu_hours": cost.hours,
        "data": sorted({run.recipe.dataset for run in runs}),
        "missing": sorted(lacking_data(runs, data_dir)),
    }


@study.command("show")
def show(name: StudyName, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a study: its runs by recipe, its statistic and evaluation, what was published."""
    from robustmix.studies.data import lacking_data
    from robustmix.studies.grid import study_runs
    from robustmix.studies.study import read_study
    from robustmix.studies.told import other_statistics

    chosen = read_study(name)
    runs = study_runs(chosen)
    if as_json:
        told = {**_costs(chosen, data_dir), "study": _values(chosen)}
        console.result(json.dumps({**told, "of_runs": [_run_json(run) for run in runs]}, indent=2))
        return
    for line in _header(chosen):
        console.result(line)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("row", overflow="fold")
    table.add_column("recipe", overflow="fold")
    table.add_column("published", overflow="fold")
    for run in runs:
        if run.seed == chosen.seeds[0]:
            table.add_row(" ".join(run.labels.values()), _recipe_told(run), _published(run, chosen))
    console.table_result(table)
    for text in (*other_statistics(chosen, runs), *chosen.notes):
        console.result(f"- {text}")
    for line in lacking_data(runs, data_dir).values():
        console.say(line)


def _values(study: "Study") -> dict[str, Any]:
    from robustmix.studies.study import study_values

    return study_values(study)


def _header(study: "Study") -> list[str]:
    seeds = ", ".join(map(str, study.seeds))
    lines = [study.title or study.name, f"source: {study.source}" if study.source else ""]
    lines.append(f"clean.top1: {study.statistic} of the epochs; seeds {seeds}")
    if study.evaluate is not None:
        asked = study.evaluate
        what = [*(f"protocol {name}" for name in asked.protocol), *asked.suite]
        limit = "" if asked.limit is None else f", {asked.limit} images"
        lines.append(f"evaluated: {', '.join(what)} of the {asked.checkpoint} checkpoint{limit}")
    lines.append(f"columns: {', '.join(study.table.columns)}")
    return [line for line in lines if line]


def _recipe_told(run: "StudyRun") -> str:
    """Return the packaged recipe's name and what the run changes of it."""
    from robustmix.studies.told import recipe_told

    return recipe_told(run)


def _published(run: "StudyRun", study: "Study") -> str:
    from robustmix.studies.told import published_told

    return published_told(run, study)


def _run_json(run: "StudyRun") -> dict[str, Any]:
    from robustmix.training.recipe_dict import recipe_to_dict

    return {
        "labels": dict(run.labels),
        "seed": run.seed,
        "name": run.name,
        "reduced": list(run.reduced),
        "recipe": recipe_to_dict(run.recipe),
    }


@study.command("run")
def run_study(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A packaged study or a TOML file [default: the one in --out].",
            autocompletion=completion.complete(completion.studies),
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study [default: one in runs/].")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs, to share them between studies [default: OUT/runs]."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only these runs, e.g. method=adautomix,vanilla; repeatable."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, e.g. 0,1,2 or 0-4 [default: the study's].")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any recipe key for every run: a reduced study; repeatable."),
    ] = None,
    limit_train: Annotated[
        str | None, typer.Option(help="Train on so many images (500) or that share (0.1).")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(help="Evaluate on so many images, or that share.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at once [default: 1; on Slurm, as many as it lets run]."),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="all, or numbers (0,1): one run at a time on each.")
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(help="slurm: submit a job array, a job a run, and wait for it.")
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Of the jobs, as sbatch has it: partition=gpu,time=4:00:00,gpus=1.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    data_dir: DataDir = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Fetch weights that recipes start from.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and what it costs.")
    ] = False,
    log: LogOption = None,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
) -> None:
    """Run a study, or go on with it; a run that is there is not made again.

    The path of the study's folder is printed on stdout; see `robustmix study table`.
    """
    console.starting(f"study {name or out}")
    from robustmix.runs import study_folder
    from robustmix.studies.commands import Launch
    from robustmix.studies.data import lacking_data
    from robustmix.studies.folder import enter_study, runs_of
    from robustmix.studies.grid import chosen_runs, study_runs
    from robustmix.studies.measured import check_measured
    from robustmix.studies.running import Slot, run_tasks, tasks_of
    from robustmix.studies.slurm import parse_slurm, require_slurm, run_on_slurm

    kind = progress_kind(progress)
    opened_log(log)  # asked here, before every run would say the same
    entered = _asked(name, out, runs, seeds, sets or [], limit_train, limit)
    folder = out or study_folder(entered.name, {**_values(entered), "seeds": None})
    planned = chosen_runs(study_runs(entered), only or [])
    tasks = tasks_of(planned, runs_of(folder, entered).absolute())
    check_measured(entered)
    slots: list[Slot] = []
    if launcher is None:
        slots = _slots(jobs, gpus, device)
    _check_launcher(launcher, slurm, gpus, jobs)
    options = parse_slurm(slurm or "")
    lacking = lacking_data(planned, data_dir)
    if dry_run:
        _show_plan(planned, tasks, entered, lacking)
        return
    if launcher is not None:
        require_slurm()
    enter_study(folder, entered)
    from robustmix.cli.study_watch import StudyProgress
    from robustmix.signals import stop_on_signals

    launch = Launch(
        device="cuda" if gpus is not None else device,
        data_dir=None if data_dir is None else data_dir.absolute(),
        allow_download=allow_download,
        imports=tuple(split_arguments(context.obj).plugins),
        loggers=tuple(split_names(log or [])),
    )
    watch = StudyProgress(kind, len(tasks), entered.evaluate)
    try:
        with stop_on_signals() as stop:
            shared: dict[str, Any] = {
                "evaluation": entered.evaluate,
                "launch": launch,
                "watch": watch,
                "stop": stop,
                "lacking": lacking,
            }
            if launcher is None:
                outcome = run_tasks(tasks, slots, **shared)
            else:
                jobs_folder = folder.absolute() / "slurm"
                outcome = run_on_slurm(tasks, options, folder=jobs_folder, at_once=jobs, **shared)
    finally:
        watch.close()
    for task, failure in outcome.failed.values():
        console.error(f"{task.run.told}: {failure.error}")
    if outcome.unfinished:
        go_on = "run it again to continue"
        if launcher is not None:
            go_on = f"their jobs go on: robustmix study status {folder}"
        console.say(f"stopped with {len(outcome.unfinished)} runs to go; {go_on}")
    console.result(str(folder))
    raise typer.Exit(outcome.exit_code)


def _asked(
    name: str | None,
    out: Path | None,
    runs: Path | None,
    seeds: str | None,
    sets: list[str],
    limit_train: str | None,
    limit: str | None,
) -> "Study":
    """Return the study that the command line means, reduced as it says."""
    from robustmix.studies.folder import require_study_in
    from robustmix.studies.grid import reduced_study, with_seeds
    from robustmix.studies.study import read_study
    from robustmix.training.resolve import parse_sets

    changes = parse_sets(sets)
    if limit_train is not None:
        changes["limit_train"] = parse_limit(limit_train)
    changed = bool(changes) or limit is not None or runs is not None
    if name is None:
        if out is None:
            raise UsageError(
                "expected a study", "robustmix study run quick --out DIR (see `study list`)"
            )
        if changed:
            raise UsageError(
                "the study in --out is what it was begun as", "name it to say otherwise"
            )
        found = require_study_in(out)
        return found if seeds is None else with_seeds(found, parse_seeds(seeds, "--seeds"))
    found = read_study(name)
    if changes or limit is not None:
        found = reduced_study(found, changes, None if limit is None else parse_limit(limit))
    if runs is not None:
        found = found.model_copy(update={"runs": str(runs.absolute())})
    return found if seeds is None else with_seeds(found, parse_seeds(seeds, "--seeds"))


def _check_launcher(
    launcher: str | None, slurm: str | None, gpus: str | None, jobs: int | None
) -> None:
    """Refuse options that contradict each other or would do nothing."""
    if launcher is None and slurm is not None:
        raise UsageError(
            "--slurm has no effect without --launcher slurm", "add it", code="E-UNUSED-OPTION"
        )
    if launcher is None:
        return
    if launcher != "slurm":
        raise unknown_name("launcher", launcher, ["slurm"])
    if gpus is not None:
        raise UsageError(
            "--gpus are of this machine", "ask Slurm for them: --slurm gpus=1", code="E-USAGE"
        )
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected a number from 1", "give --jobs 2")


def _slots(jobs: int | None, gpus: str | None, device: str) -> "list[Any]":
    from robustmix.studies.running import cpu_slots, gpu_slots

    if gpus is None:
        return list(cpu_slots(1 if jobs is None else jobs))
    if jobs is not None:
        raise UsageError("--jobs and --gpus are two ways to run", "give one of them")
    if device not in ("auto", "cuda"):
        raise UsageError(f"--gpus and --device {device} contradict each other", "give one of them")
    from robustmix.environment import visible_gpus

    return list(gpu_slots(gpus, visible_gpus()))


def _show_plan(
    runs: "Sequence[StudyRun]", tasks: Sequence[Any], study: "Study", lacking: dict[str, str]
) -> None:
    """Print what would run."""
    from robustmix.studies.cost import cost_of, total_cost
    from robustmix.studies.run_state import read_state

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    for name in ("seed", "state", "steps", "passes", "GPU h"):
        table.add_column(name, justify="right")
    for task in tasks:
        cost = cost_of(task.run.recipe)
        state = read_state(task.folder, task.run.recipe, study.evaluate)
        table.add_row(
            " ".join(task.run.labels.values()),
            str(task.run.seed),
            "no data" if task.run.recipe.dataset in lacking else state.stage,
            amount(cost.steps),
            amount(cost.passes),
            hours(cost.hours),
        )
    console.table_result(table)
    whole = total_cost(runs)
    console.result(
        f"{len(tasks)} runs for {len(runs)} cells and seeds; {amount(whole.steps)} steps, "
        f"{amount(whole.passes)} passes, {hours(whole.hours)} GPU hours"
    )
    if any(run.reduced for run in runs):
        reasons = dict.fromkeys(reason for run in runs for reason in run.reduced)
        console.result("reduced: " + "; ".join(reasons))
    for line in lacking.values():
        console.say(line)
    console.say(_HOURS)


@study.command("status")
def status(
    folder: StudyFolder,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every few seconds until all has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where the runs of a study stand."""
    from robustmix.studies.folder import require_study_in, runs_of
    from robustmix.studies.grid import study_runs

    if watch and as_json:
        raise UsageError("--watch and --json are two ways to show it", "give one of them")
    chosen = require_study_in(folder)
    runs = study_runs(chosen)
    place = runs_of(folder, chosen)
    if watch:
        _watch(runs, place, chosen)
        return
    states = _states(runs, place, chosen)
    jobs = _job_states(runs, place)
    if as_json:
        found = [_state_json(run, state, jobs) for run, state in states]
        console.result(json.dumps(found, indent=2))
        return
    console.table_result(state_table(states, jobs))
    console.result(counted([state for _, state in states]))
    for line in failures(states):
        console.result(line)


def _states(
    runs: "Sequence[StudyRun]", place: Path, study: "Study"
) -> "list[tuple[StudyRun, RunState]]":
    from robustmix.studies.run_state import read_state

    return [(run, read_state(place / run.name, run.recipe, study.evaluate)) for run in runs]


def _job_states(runs: "Sequence[StudyRun]", place: Path) -> dict[str, str]:
    from robustmix.studies.slurm import slurm_states

    return slurm_states([place / run.name for run in runs])


def _state_json(run: "StudyRun", state: "RunState", jobs: "dict[str, str]") -> dict[str, Any]:
    return {
        "labels": dict(run.labels),
        "seed": run.seed,
        "name": run.name,
        "state": state.stage,
        "epoch": state.epoch,
        "epochs": state.epochs,
        "left_s": state.left_s,
        "job": jobs.get(run.name),
        "error": None if state.failure is None else state.failure.error,
    }


WATCH_S = 2.0


def _watch(runs: "Sequence[StudyRun]", place: Path, study: "Study") -> None:
    """Show the table until every run has ended or the user leaves."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console.talk(), auto_refresh=False) as live:
        while True:
            states = _states(runs, place, study)
            words = [counted([state for _, state in states]), *failures(states)]
            table = state_table(states, _job_states(runs, place))
            live.update(Group(table, *map(Text, words)), refresh=True)
            if all(state.stage in ("done", "failed") for _, state in states):
                return
            time.sleep(WATCH_S)


@study.command("table")
def table(
    folder: StudyFolder,
    format: Format = None,
    out: Out = None,
    published: PrintedToo = False,
    sort: Sort = "",
    significance: Significance = False,
) -> None:
    """Show the table of a study: mean and spread over seeds; what is not there is empty."""
    from robustmix.studies.folder import require_study_in, runs_of
    from robustmix.studies.study_results import study_table

    chosen = format_of(format, out)
    entered = require_study_in(folder)
    made = study_table(entered, runs_of(folder, entered), published=published, sort=sort)
    if significance:
        from robustmix.studies.significance import with_significance

        made = with_significance(made, watch=console.Waiting())
    show_table(made, chosen, out)
