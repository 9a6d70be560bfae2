"""``train``'s flags on how test images are prepared, as keys of the recipe."""

from robustmix.data.manifests import list_manifests, load_manifest
from robustmix.data.preparation import TestTransform, TransformOptions
from robustmix.data.protocol import folder_protocol
from robustmix.errors import UsageError
from robustmix.training.recipe import Recipe


def transform_keys(recipe: Recipe, asked: TransformOptions) -> dict[str, object]:
    """Return what the flags make of a recipe's test transform, as dotted keys to give over it.

    The network gets squares of the side that the recipe has without the flags, so that training
    images are as before; the border of ``crop_mode`` has the colour of its normalisation.

    Args:
        recipe: as everything else that is given makes it.
        asked: what the flags say.

    Raises:
        UsageError: options exclude each other, have no effect or are impossible (``E-TRANSFORM``);
            or only the images of a folder could say their side.

    Example:
        >>> transform_keys(Recipe(dataset="cifar10"), TransformOptions(crop_pct=0.8))
        {'test_transform.resize': 40, 'test_transform.interpolation': 'bicubic', \
'test_transform.crop': 32}
    """
    if not asked.said:
        return {}
    base = TestTransform.of_record(recipe.test_transform or {})
    side = _side(recipe, base)
    if side is None:
        raise UsageError(
            f"--{asked.said[0].replace('_', '-')}: the side of the images of {recipe.dataset} is "
            "not known before they are read",
            "add --img-size",
            code="E-TRANSFORM",
        )
    if recipe.test_transform is None:  # a folder's own way
        base = folder_protocol(side, as_stored=False).test_transform
    mean = recipe.normalisation.get("mean") or folder_protocol(side, as_stored=False).mean
    try:
        made = asked.over(base, side, mean)
    except ValueError as error:
        raise UsageError(
            f"test images: {error}", "change the option or leave it out", code="E-TRANSFORM"
        ) from None
    record = made.record()
    if asked.crop_mode is not None:  # "center" too, over what a file says
        record["crop_mode"] = made.crop_mode
    return {f"test_transform.{key}": value for key, value in record.items()}


def _side(recipe: Recipe, base: TestTransform) -> int | None:
    known = recipe.img_size or base.crop or base.resize
    if known is not None or recipe.dataset not in list_manifests():
        return known
    size = load_manifest(recipe.dataset).image_size
    return None if size is None or size[0] != size[1] else size[0]
