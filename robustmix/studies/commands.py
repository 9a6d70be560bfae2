"""The two processes of a run: ``robustmix train``, then ``robustmix eval``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustmix.studies.grid import StudyRun
from robustmix.studies.run_state import evaluation_folder
from robustmix.studies.study import Evaluation
from robustmix.training.recipe_dict import write_recipe


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What all processes of a study are given."""

    device: str = "auto"
    data_dir: Path | None = None
    allow_download: bool = False
    imports: tuple[str, ...] = ()
    """What ``--import`` adds."""

    loggers: tuple[str, ...] = ()
    """What ``--log`` names."""

    processes: int = 1
    """That train one run together, each on a GPU of its own."""


def train_command(run: StudyRun, folder: Path, launch: Launch) -> list[str]:
    """Return the command that begins or continues the training of a run in its folder.

    The recipe is written there first: ``train`` without one takes the folder's.
    """
    recipe = folder / "recipe.toml"
    if not recipe.is_file():
        write_recipe(recipe, run.recipe)
    program = [sys.executable, "-m"]
    if launch.processes > 1:
        together = ("--standalone", "--nproc-per-node", str(launch.processes))
        program += ["torch.distributed.run", *together, "-m"]
    words = [*program, "robustmix", *_imports(launch)]
    return [*words, "train", "--out", str(folder), *_common(launch)]


def eval_command(folder: Path, evaluation: Evaluation, launch: Launch) -> list[str]:
    """Return the command that begins or continues the evaluation of a trained run."""
    model = folder / "checkpoints" / f"{evaluation.checkpoint}.pth"
    program = [sys.executable, "-m", "robustmix"]
    words = [*program, *_imports(launch), "eval", str(model)]
    for protocol in evaluation.protocol:
        words += ["--protocol", protocol]
    for suite in evaluation.suite:
        words += ["--suite", suite]
    if evaluation.limit is not None:
        words += ["--limit", str(evaluation.limit)]
    for name, value in evaluation.options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    out = evaluation_folder(folder, evaluation)
    return [*words, "--out", str(out), "--resume", *_common(launch)]


def _imports(launch: Launch) -> list[str]:
    return [word for name in launch.imports for word in ("--import", name)]


def _common(launch: Launch) -> list[str]:
    words = ["--device", launch.device, "--progress", "plain"]
    if launch.data_dir is not None:
        words += ["--data-dir", str(launch.data_dir)]
    if launch.loggers:
        words += ["--logger", ",".join(launch.loggers)]  # torchrun would take --log for its own
    if launch.allow_download:
        words += ["--allow-download"]
    return words


def error_of(log: Path, exit_code: int) -> str:
    """Return the error line that a process left in its log, or else its last line."""
    lines = last_lines(log, 50)
    errors = [line for line in lines if line.startswith("error[")]
    if errors:
        return errors[-1]
    if exit_code < 0:
        return f"killed by signal {-exit_code}" + (f": {lines[-1]}" if lines else "")
    return lines[-1] if lines else f"it ended with exit code {exit_code} and said nothing"


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not empty, from its last 64 KiB."""
    try:
        with open(log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 2**16))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def is_busy(error: str) -> bool:
    """Say whether a process ended because another one works in its folder."""
    return error.startswith("error[E-BUSY]")


def quoted(words: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    import shlex

    return shlex.join(words)
