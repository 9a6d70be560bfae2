"""What others add by a name: a suite, attack, metric, method, corruption, architecture, data set.

For files and modules that ``--import`` names on a command line, and for scripts that use robustmix.
Each function registers the thing it is given, or the one that it decorates. Facts are the further
fields of the rows of its table. Packages that are installed need no call: they name what they add
by entry points of the groups ``robustmix.suites``, ``robustmix.attacks`` and so on, and may use
these functions all the same. ``docs/extend`` has a page on each kind.

All raise ``UsageError`` for a name that is taken or a fact that there is not. Nothing here imports
torch.

Example:
    >>> from robustmix import corruptions, register
    >>> with corruptions.CORRUPTIONS.temporary():
    ...     @register.corruption("darker", group="digital")
    ...     def darker(images, severity):
    ...         '''Every value shifted right by the severity.'''
    ...         return images >> severity
    ...     corruptions.CORRUPTIONS.row("darker").help
    'Every value shifted right by the severity.'
"""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from robustmix.data.manifests import ManifestSource
    from robustmix.tables import Table

Thing = TypeVar("Thing")

# The tables are imported inside the functions: a file with one corruption in it should not have to
# wait for the suites, and a broken part of robustmix should not keep others from being used.


class Decorator(Protocol):
    """Registers what it decorates, and leaves it as it is."""

    def __call__(self, thing: Thing, /) -> Thing:
        """Register ``thing``."""
        ...


def suite(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register an evaluation suite, a dataclass of options (``robustmix.evaluation.suite``)."""
    from robustmix.evaluation.suites.registry import SUITES

    return _added(SUITES, name, thing, help, facts)


def attack(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register an attack: (model, images, labels, eps=...) -> images in the ball."""
    from robustmix.attacks.registry import ATTACKS

    return _added(ATTACKS, name, thing, help, facts)


def metric(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register a metric ``SUITE.NAME``: rows -> its definition, or None where it has no meaning."""
    from robustmix.metrics.registry import METRICS

    return _added(METRICS, name, thing, help, facts)


def method(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register a training method: a class of (network, config, setup)."""
    from robustmix.methods.registry import METHODS

    return _added(METHODS, name, thing, help, facts)


def corruption(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register a corruption.

    Args:
        name: what it is called everywhere.
        thing: (images uint8 (N, 3, H, W), severity 1 to 5) -> images of the same type and shape;
            or a ``Corruption``, which also draws, or has constants for each size of images.
        help: one line; by default the first one of its docstring.
        facts: ``group``, e.g. noise, blur, weather or digital.
    """
    from robustmix.corruptions.registry import CORRUPTIONS

    return _added(CORRUPTIONS, name, thing, help, facts)


def arch(name: str, builder: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register an architecture.

    Args:
        name: what it is called everywhere.
        builder: number of classes -> network from normalised images (N, 3, H, W) to logits (N, K).
            It is also given ``stem``, ``size`` (H, W) and ``drop_path`` if it has such parameters.
        help: one line; by default the first one of its docstring.
        facts: fields of ``ArchRow``, e.g. ``params_millions``, ``multiple`` or ``options``.
    """
    from robustmix.models.names import ARCHS

    return _added(ARCHS, name, builder, help, facts)


def saliency(name: str, thing: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register a source of saliency maps for the suite ``occlusion``.

    Args:
        name: what ``--saliency`` calls it.
        thing: ``robustmix.saliency.sources.Explained`` -> maps (N, H, W), finite and not negative;
            larger is more salient.
        help: one line; by default the first one of its docstring.
        facts: ``of_the_model``, false for one that does not ask the evaluated model.
    """
    from robustmix.saliency.registry import SALIENCY

    return _added(SALIENCY, name, thing, help, facts)


def logger(name: str, opener: object = None, help: str = "", **facts: Any) -> Decorator:
    """Register a logger.

    Args:
        name: what ``--log`` calls it.
        opener: (``robustmix.loggers.RunStarted``, a folder of the run, ``Memory`` of what is logged
            already) -> who is given every later event, each step once, in a thread of its own.
        help: one line; by default the first one of its docstring.
        facts: ``needs`` (a package), ``rewinds``, ``pictures``, ``check``; see ``LoggerRow``.
    """
    from robustmix.loggers.registry import LOGGERS

    return _added(LOGGERS, name, opener, help, facts)


def dataset(
    name: str, loader: object = None, help: str = "", *, manifest: "ManifestSource | None" = None
) -> Decorator:
    """Register a data set.

    Args:
        name: what it is called everywhere.
        loader: (manifest, split, data folder) -> ``ImageSet`` with that name and split.
        help: one line; by default title and number of classes of the manifest.
        manifest: path of a JSON file like those in ``robustmix/data_manifests``, or its content.
            Left out for a data set that has one there and is not read by name so far.

    Raises:
        IntakeError: the manifest cannot be read, or is of another data set.
    """
    from robustmix.data.manifests import DATASETS, manifest_of

    known = manifest_of(name, manifest)
    text = help or f"{known.title}, {known.num_classes} classes"
    facts = {} if manifest is None else {"manifest": known}
    return _added(DATASETS, name, loader, text, facts)


def _added(
    table: "Table[Any, Any]", name: str, thing: object, help: str, facts: dict[str, Any]
) -> Decorator:
    def add(found: Thing, /) -> Thing:
        table.register(name, found, help, **facts)
        return found

    if thing is not None:
        add(thing)
    return add
