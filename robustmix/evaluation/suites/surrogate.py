"""A second model of the same task, on which images are made that fool it."""

from pathlib import Path

from robustmix.errors import UsageError
from robustmix.evaluation.class_names import check_class_names
from robustmix.evaluation.suite import Scene
from robustmix.later import RobustModel


def open_surrogate(
    given: str | Path | RobustModel, scene: Scene, *, called: str = "surrogate"
) -> RobustModel:
    """Load a second model, if it is not loaded yet, and see that it is of the same task.

    Args:
        given: a checkpoint, a name such as ``timm:resnet50``, or a model.
        scene: the model under test, and the images.
        called: what messages call it.

    Raises:
        UsageError: it has another number of classes, or takes images of another size.
        IntakeError: it cannot be loaded, or has other classes or another order of them.
    """
    from robustmix.models.load import load_model

    robust = scene.robust
    other = (
        load_model(given, allow_download=scene.allow_download)
        if isinstance(given, str | Path)
        else given
    )
    if (other.num_classes, other.input_size) != (robust.num_classes, robust.input_size):
        raise UsageError(
            f"the {called} has {other.num_classes} classes and takes images "
            f"{other.input_size}, the model {robust.num_classes} and {robust.input_size}",
            "give a model of the same task",
            code="E-SURROGATE",
        )
    check_class_names(other, scene.data)
    return other
