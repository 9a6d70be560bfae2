"""What the shell completes: names of suites, methods, data sets and so on, without torch."""

from collections.abc import Callable, Iterable

Names = Callable[[], Iterable[str]]


def complete(names: Names, *, several: bool = False) -> Callable[[str], list[str]]:
    """Make a completion of what typer asks.

    Args:
        names: gives what there is; called when the shell asks.
        several: whether names follow each other with commas between; the last is completed.

    Example:
        >>> complete(lambda: ["clean", "fgsm"], several=True)("clean,f")
        ['clean,fgsm']
    """

    def completed(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [before + comma + name for name in names() if name.startswith(last)]

    return completed


def suites() -> Iterable[str]:
    """Name the suites."""
    from robustmix.evaluation.suites.registry import suite_names

    return [*suite_names(), "all"]


def protocols() -> Iterable[str]:
    """Name the protocols."""
    from robustmix.evaluation.protocols import PROTOCOLS

    return PROTOCOLS


def datasets() -> Iterable[str]:
    """Name the data sets that are read by name, and how a folder begins."""
    from robustmix.data.location import FOLDER
    from robustmix.data.manifests import DATASETS

    return [*DATASETS, FOLDER]


def archs() -> Iterable[str]:
    """Name the architectures."""
    from robustmix.models.names import ARCHS

    return ARCHS


def loggers() -> Iterable[str]:
    """Name the loggers."""
    from robustmix.loggers.registry import LOGGERS

    return LOGGERS


def methods() -> Iterable[str]:
    """Name the training methods."""
    from robustmix.methods.registry import METHODS

    return METHODS


def recipes() -> Iterable[str]:
    """Name the packaged recipes."""
    from robustmix.training.catalogue import list_recipes

    return list_recipes()


def studies() -> Iterable[str]:
    """Name the packaged studies."""
    from robustmix.studies.study import packaged_studies

    return packaged_studies()
