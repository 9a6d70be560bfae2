"""Opening shift sets: which belong to the evaluated images, and what is recorded of each."""

from collections.abc import Sequence

from robustmix.corruptions.folder_c import SIDES
from robustmix.data.content import pixels_sha256
from robustmix.data.images import ImageSet
from robustmix.data.shift.registry import CORRUPTED, SHIFTS, place_of
from robustmix.data.shift.sets import Conditions, ShiftSet
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.suite import Scene, limited_count
from robustmix.evaluation.suites.official import as_stored, benchmark_name
from robustmix.evaluation.suites.shift_rows import SetFacts
from robustmix.rng import seeded_subset


def sets_there(scene: Scene) -> tuple[str, ...]:
    """Name the sets of the evaluated data set that are in the data folder."""
    of = _data_set(scene.data)
    known = [name for name in SHIFTS if SHIFTS.row(name).clean_of == of]
    found = tuple(name for name in known if place_of(name, scene.folder) is not None)
    if not found:
        raise UsageError(
            f"no shift set of {of} lies in the data folder {scene.folder}",
            f"extract one there: {', '.join(known)}"
            if known
            else f"leave the suite out: of {of} there is none",
            code="E-SHIFT-SET",
        )
    return found


def check_name(name: str, names: Sequence[str]) -> None:
    """Refuse a name that is none, that another suite reads, or that is asked for twice.

    Raises:
        UsageError: it is one.
    """
    if name in CORRUPTED:
        raise UsageError(
            f"{name} is read by the suite corruption",
            "use --suite corruption --corruption-source official",
            code="E-SHIFT-SET",
        )
    SHIFTS.checked(name, code="E-SHIFT-SET")
    if list(names).count(name) > 1:
        raise UsageError(f"shift set {name} is named twice", "name it once", code="E-SHIFT-SET")


def _data_set(data: ImageSet) -> str:
    """Name the data set whose classes the evaluated images have."""
    name = benchmark_name(data)
    if name in SHIFTS:
        return SHIFTS.row(name).clean_of
    return "imagenet-1k" if data.class_names == imagenet_wnids() else name


def open_set(name: str, scene: Scene) -> tuple[SetFacts, ShiftSet | Conditions]:
    """Open a set, and say what is recorded of it.

    Raises:
        UsageError: it belongs to another data set than the evaluated images.
        IntakeError: files are missing, damaged or not of these images.
    """
    data, row = scene.data, SHIFTS.row(name)
    if _data_set(data) != row.clean_of:
        raise UsageError(
            f"{name} has the classes of {row.clean_of}, the evaluated images are of {data.name}",
            f"evaluate a model of {row.clean_of} on it, or leave {name} out",
            code="E-SHIFT-SET",
        )
    place = place_of(name, scene.folder)
    if place is None:
        raise IntakeError(
            f"{name} is not in the data folder: no {' or '.join(row.places)} in {scene.folder}",
            "download it from its authors and extract it there",
            code="E-DATA",
        )
    same = benchmark_name(data) == row.clean_of
    counterpart = row.clean_of if same else None
    if row.kind == "conditions":
        if not same:
            raise UsageError(
                f"{name} changes the test images of {row.clean_of}, the evaluated ones are of "
                f"{data.name}",
                f"evaluate on {row.clean_of}",
                code="E-SHIFT-SET",
            )
        _check_stored(name, data)
    opened = SHIFTS[name](name, place, data)
    if isinstance(opened, Conditions):
        facts = SetFacts(
            name=name,
            kind="conditions",
            n=0,
            of=len(data),
            counterpart=counterpart,
            corruptions=opened.names,
            sha256=opened.sha256,
            notes=opened.notes,
        )
        return facts, opened
    return _facts(name, opened, counterpart, scene)


def _check_stored(name: str, data: ImageSet) -> None:
    size = as_stored(data.pixels).pixels.size
    side = SIDES.get(SHIFTS.row(name).clean_of, 32)
    if size != (3, side, side):
        raise IntakeError(
            f"{name} holds images of {side}x{side} pixels, the clean ones have {size[1]}x{size[2]}",
            f"evaluate a model for {side} pixels",
            code="E-INPUT-SIZE",
        )


def _facts(
    name: str, opened: ShiftSet, counterpart: str | None, scene: Scene
) -> tuple[SetFacts, ShiftSet]:
    whole = opened.images
    notes = opened.notes
    if opened.expected is not None and len(whole) != opened.expected:
        notes = (*notes, f"it has {len(whole):,} images, {opened.expected:,} were published")
    objects = 0 if opened.mapping is None else len(set(whole.labels.tolist()))
    images = _limited(whole, opened, scene)
    facts = SetFacts(
        name=name,
        kind="images",
        n=len(images),
        of=len(whole),
        counterpart=counterpart,
        classes=opened.classes,
        mapping=opened.mapping,
        objects=objects,
        sha256=images.order_sha256,
        pixels_sha256=pixels_sha256(images),
        notes=notes,
    )
    kept = ShiftSet(images=images, classes=opened.classes, mapping=opened.mapping)
    return facts, kept


def _limited(images: ImageSet, opened: ShiftSet, scene: Scene) -> ImageSet:
    """Take as many images as were asked for of the evaluated ones, by the same seed."""
    if scene.limit is None:
        return images
    count = max(1, limited_count(scene.limit, len(images)))
    chosen = seeded_subset(scene.seed, images.sample_ids, count)
    return images if chosen is None else images.subset(chosen)
