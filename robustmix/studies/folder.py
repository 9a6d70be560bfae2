"""The folder of a study: what it is, complete, and below it the runs."""

from pathlib import Path

from robustmix.errors import IncompatibleError, IntakeError
from robustmix.files import write_text
from robustmix.locks import run_lock
from robustmix.studies.study import Study, study_of, study_text, study_values
from robustmix.toml_files import read_toml

RECORD = "study.toml"
"""What the study is, complete."""


def runs_of(folder: Path, study: Study) -> Path:
    """Return where the runs of a study lie."""
    return folder / "runs" if study.runs is None else Path(study.runs)


def require_study_in(folder: Path) -> Study:
    """Return the study of a folder that ``study run`` made.

    Raises:
        IntakeError: there is none.
    """
    path = folder / RECORD
    if not path.is_file():
        raise IntakeError(
            f"{folder} holds no study: there is no {RECORD}",
            "give the folder that `robustmix study run --out` was given",
            code="E-STUDY",
        )
    return study_of(read_toml(path, what="study"), folder.name, str(path))


def enter_study(folder: Path, study: Study) -> Study:
    """Record a study in its folder, or find the one that is there.

    What is chosen of it, its seeds apart, is not recorded: they are those that were ever asked for.

    Args:
        folder: of the study; made if it is not there.
        study: with the seeds that are asked for.

    Returns:
        The study as it was given.

    Raises:
        IncompatibleError: the folder holds another study.
        IncompleteError: the folder cannot be written.
    """
    with run_lock(folder / ".study"):
        known = require_study_in(folder) if (folder / RECORD).is_file() else None
        if known is not None:
            _same(folder, known, study)
        seeds = tuple(dict.fromkeys([*(known.seeds if known else ()), *study.seeds]))
        if known is None or seeds != known.seeds:
            write_text(folder / RECORD, study_text(study.model_copy(update={"seeds": seeds})))
    return study


def _same(folder: Path, known: Study, asked: Study) -> None:
    old, new = study_values(known), study_values(asked)
    for key in dict.fromkeys([*old, *new]):
        if key != "seeds" and old.get(key) != new.get(key):
            raise IncompatibleError(
                f"{folder} holds another study: its {key} is {_short(old.get(key))}, here it is "
                f"{_short(new.get(key))}",
                "choose another --out; runs can be shared with --runs",
                code="E-OTHER-STUDY",
            )


def _short(value: object) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 120 else text[:117] + "..."
