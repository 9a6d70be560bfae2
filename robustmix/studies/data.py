"""Data sets that the runs of a study need and that are not here."""

from collections.abc import Sequence
from pathlib import Path

from robustmix.data.homes import is_here
from robustmix.data.location import data_folder
from robustmix.data.manifests import DATASETS
from robustmix.errors import IntakeError
from robustmix.studies.grid import StudyRun


def lacking_data(runs: Sequence[StudyRun], data_dir: Path | None) -> dict[str, str]:
    """Return the data sets that are not here: name -> the error line of a run that needs it.

    Of folders and other places of the user's own, training says it.
    """
    root = data_folder(data_dir)
    names = {run.recipe.dataset: None for run in runs if run.recipe.dataset in DATASETS}
    return {
        name: IntakeError(
            f"{name} is not in {root}",
            f"robustmix data info {name} says what to download; --data-dir or ROBUSTMIX_DATA names "
            "the folder",
            code="E-DATA",
        ).line()
        for name in names
        if not is_here(name, root)
    }
