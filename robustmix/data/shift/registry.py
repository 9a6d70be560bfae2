"""The one table of shift sets: what belongs to which data set, and where its files are looked for.

A set of ``images`` has images of its own; one of ``conditions`` changes the clean test images, each
in several ways at five severities, as the common corruptions do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from robustmix.data.images import ImageSet
    from robustmix.data.shift.sets import Conditions, ShiftSet

Kind: TypeAlias = Literal["images", "conditions"]

Opener: TypeAlias = "Callable[[str, Path, ImageSet], ShiftSet | Conditions]"
"""(name, the place that was found, the evaluated images) -> the set, prepared as these are."""

_HERE = "robustmix.data.shift"


@dataclass(frozen=True)
class ShiftRow(Row):
    """One shift set."""

    clean_of: str = ""
    """The data set whose classes it has, and whose test images are its clean counterpart."""

    places: tuple[str, ...] = ()
    """Below the data folder; the first that is there is read."""

    kind: Kind = "images"


def _imagenet(target: str, text: str, *places: str, kind: Kind = "images") -> ShiftRow:
    return ShiftRow(f"{_HERE}.{target}", text, clean_of="imagenet-1k", places=places, kind=kind)


def _cifar(
    target: str, text: str, *places: str, of: str = "cifar10", kind: Kind = "images"
) -> ShiftRow:
    return ShiftRow(f"{_HERE}.{target}", text, clean_of=of, places=places, kind=kind)


def _v2(variant: str, text: str) -> ShiftRow:
    folder = f"imagenetv2-{variant}-format-val"
    return _imagenet("imagenet:open_numbered", text, folder, f"imagenetv2-{variant}/{folder}")


def _cifar10_1(version: str) -> tuple[str, ...]:
    file = f"cifar10.1_{version}_data.npy"
    return file, f"CIFAR-10.1/{file}", f"CIFAR-10.1/datasets/{file}", f"cifar10.1/{file}"


SHIFTS: "Table[Opener, ShiftRow]" = Table(
    "shift set",
    ShiftRow,
    {
        "imagenet-a": _imagenet(
            "imagenet:open_part",
            "ImageNet-A: photographs that a ResNet-50 gets wrong, 200 classes",
            "imagenet-a",
        ),
        "imagenet-r": _imagenet(
            "imagenet:open_part",
            "ImageNet-R: paintings, toys, drawings and other renditions, 200 classes",
            "imagenet-r",
        ),
        "imagenet-v2-matched-frequency": _v2(
            "matched-frequency", "ImageNet-V2, chosen as often as ImageNet's own (b-33)"
        ),
        "imagenet-v2-threshold0.7": _v2(
            "threshold0.7", "ImageNet-V2, chosen by at least 7 of 10 people (a-44)"
        ),
        "imagenet-v2-top-images": _v2("top-images", "ImageNet-V2, chosen most often (c-12)"),
        "imagenet-sketch": _imagenet(
            "imagenet:open_whole",
            "ImageNet-Sketch: black and white drawings, 1,000 classes",
            "sketch",
            "ImageNet-Sketch/sketch",
            "imagenet-sketch",
        ),
        "objectnet": _imagenet(
            "objectnet:open_objectnet",
            "ObjectNet: household objects in odd poses, 113 classes shared with ImageNet",
            "objectnet-1.0",
            "ObjectNet/objectnet-1.0",
        ),
        "imagenet-c-bar": _imagenet(
            "conditions:open_imagenet_c_bar",
            "ImageNet-C-bar: ten corruptions unlike those of ImageNet-C",
            "imagenet_c_bar",
            "ImageNet-C-bar",
            "ImageNet-C-Bar",
            kind="conditions",
        ),
        "imagenet-3dcc": _imagenet(
            "conditions:open_imagenet_3dcc",
            "ImageNet-3DCC: twelve corruptions that heed depth, of the 3D common corruptions",
            "ImageNet-3DCC",
            kind="conditions",
        ),
        "cifar10.1-v4": _cifar(
            "cifar:open_cifar10_1", "CIFAR-10.1 v4, 2,021 new images", *_cifar10_1("v4")
        ),
        "cifar10.1-v6": _cifar(
            "cifar:open_cifar10_1", "CIFAR-10.1 v6, 2,000 new images, 200 a class",
            *_cifar10_1("v6"),
        ),
        "cifar10.2": _cifar(
            "cifar:open_cifar10_2",
            "CIFAR-10.2, test part: 2,000 new images",
            "cifar102_test.npz",
            "CIFAR-10.2/cifar102_test.npz",
            "cifar-10.2/cifar102_test.npz",
        ),
        "cifar10-c-bar": _cifar(
            "conditions:open_cifar_c_bar",
            "CIFAR-10-C-bar: ten corruptions unlike those of CIFAR-10-C",
            "CIFAR-10-C-Bar",
            "CIFAR-10-C-bar",
            kind="conditions",
        ),
        "cifar100-c-bar": _cifar(
            "conditions:open_cifar_c_bar",
            "CIFAR-100-C-bar: ten corruptions unlike those of CIFAR-100-C",
            "CIFAR-100-C-Bar",
            "CIFAR-100-C-bar",
            of="cifar100",
            kind="conditions",
        ),
    },
    plural="shift_sets",
)  # fmt: skip

CORRUPTED = ("imagenet-c", "tiny-imagenet-c", "cifar10-c", "cifar100-c")
"""Sets of the common corruptions, which the suite ``corruption`` reads."""


def place_of(name: str, data_dir: Path) -> Path | None:
    """Return where a set lies below the data folder, None if it is not there."""
    found = (data_dir / place for place in SHIFTS.row(name).places)
    return next((place for place in found if place.exists()), None)
