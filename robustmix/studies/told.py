"""A run of a study in words: its recipe, and what was published of it."""

from collections.abc import Sequence

from robustmix.errors import UsageError
from robustmix.studies.grid import StudyRun
from robustmix.studies.published import find_published
from robustmix.studies.statistics import STATISTICS
from robustmix.studies.study import Study
from robustmix.training.catalogue import flat
from robustmix.training.recipe import INFORMATIVE
from robustmix.training.recipe_dict import recipe_to_dict
from robustmix.training.resolve import resolve_recipe


def recipe_told(run: StudyRun) -> str:
    """Return the name of the packaged recipe a run has, with the keys in which it differs.

    Example: ``cifar100-resnet18-adautomix, method.beta=0.7``.
    """
    recipe = run.recipe
    name = f"{recipe.dataset}-{recipe.arch}-{recipe.method}"
    if recipe.variant is not None:
        name += f"-{recipe.variant}"
    try:
        plain = resolve_recipe(name)
    except UsageError:
        return name
    there, here = (flat(recipe_to_dict(one)) for one in (plain, recipe))
    changed = [
        f"{key}={here[key]}"
        for key in dict.fromkeys([*there, *here])
        # A key that is gone has no effect under the others.
        if key in here and there.get(key) != here[key] and key not in (*INFORMATIVE, "seed")
    ]
    return ", ".join([name, *changed])


def other_statistics(study: Study, runs: Sequence[StudyRun]) -> list[str]:
    """Say of which runs clean accuracy is another statistic than the study's."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.statistic != study.statistic:
            place = f"{run.labels['dataset']} {run.labels['arch']}"
            found.setdefault(run.statistic, {})[place] = None
    return [
        f"clean.top1 of {', '.join(places)}: {STATISTICS[name].help.partition(':')[0]}"
        for name, places in found.items()
    ]


def published_told(run: StudyRun, study: Study) -> str:
    """Return what was printed of a run, by the metrics of the study's columns."""
    found = []
    for column in study.table.columns:
        figures = find_published(
            dataset=run.labels["dataset"],
            arch=run.labels["arch"],
            epochs=run.epochs,
            method=run.published_as,
            metric=column,
            studies=study.published or (study.name,),
        )
        if figures:
            found.append(f"{figures[0].metric} {figures[0].printed}")
    return ", ".join(found)
