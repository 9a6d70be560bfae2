"""Sets of corruptions beside the common ones: C-bar, and the 3D common corruptions.

Mintun et al. 2021, arXiv:2102.11273 (C-bar); Kar et al. 2022, arXiv:2203.01441 (3DCC). They are
read as the released files of the common corruptions are; the names differ.
"""

from collections.abc import Sequence
from pathlib import Path

from robustmix.corruptions.cifar_c import CifarC
from robustmix.corruptions.folder_c import FolderC
from robustmix.corruptions.names import SEVERITIES
from robustmix.data.images import ImageSet
from robustmix.data.shift.registry import SHIFTS
from robustmix.data.shift.sets import Conditions
from robustmix.errors import IntakeError
from robustmix.files import hash_json

IMAGENET_C_BAR = (
    "blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout",
    "cocentric_sine_waves", "inverse_sparkles", "perlin_noise", "plasma_noise",
    "single_frequency_greyscale", "sparkles",
)  # fmt: skip
"""Names as they are spelt in the released folders."""

CIFAR_C_BAR = (
    "blue_noise_sample", "brownish_noise", "checkerboard_cutout", "circular_motion_blur",
    "inverse_sparkles", "lines", "pinch_and_twirl", "ripple", "sparkles",
    "transverse_chromatic_abberation",
)  # fmt: skip
"""Five of them are ImageNet's; names as they are spelt in the generator's files."""

IMAGENET_3DCC = (
    "near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light", "xy_motion_blur",
    "z_motion_blur", "iso_noise", "bit_error", "h265_abr", "h265_crf",
)  # fmt: skip


def open_cifar_c_bar(name: str, place: Path, like: ImageSet) -> Conditions:
    """Open the arrays of CIFAR-10-C-bar or of CIFAR-100-C-bar.

    Their generator sets no seed, so two builds differ.

    Raises:
        IntakeError: a file is missing or damaged, or the labels are not the clean ones.
    """
    files = CifarC.open(
        place,
        dataset=SHIFTS.row(name).clean_of,
        clean_labels=like.labels,
        n=len(like),
        names=CIFAR_C_BAR,
    )
    _complete(place, files.available, CIFAR_C_BAR)
    digest = hash_json(files.labels.tolist())
    return Conditions(files=files, names=CIFAR_C_BAR, sha256=digest)


def open_imagenet_c_bar(name: str, place: Path, like: ImageSet) -> Conditions:
    """Open the folders of ImageNet-C-bar: as downloaded (1 to 5), or as made (by value).

    Raises:
        IntakeError: see ``FolderC.open``.
    """
    return _folders(place, like, IMAGENET_C_BAR, by_value=True)


def open_imagenet_3dcc(name: str, place: Path, like: ImageSet) -> Conditions:
    """Open the folders of ImageNet-3DCC.

    Raises:
        IntakeError: see ``FolderC.open``.
    """
    return _folders(place, like, IMAGENET_3DCC, by_value=False)


def _folders(place: Path, like: ImageSet, names: Sequence[str], *, by_value: bool) -> Conditions:
    files = FolderC.open(
        place,
        dataset="imagenet-1k",
        class_names=like.class_names,
        clean_labels=like.labels,
        clean_files=[sample_id.rpartition("/")[2] for sample_id in like.sample_ids],
        names=names,
        severities=SEVERITIES,
        by_value=by_value,
    )
    _complete(place, files.available, names)
    return Conditions(files=files, names=tuple(names), sha256=hash_json(list(files.files)))


def _complete(place: Path, available: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in available]
    if missing:
        raise IntakeError(
            f"{place} holds no {missing[0]}: {len(names) - len(missing)} of {len(names)} "
            "corruptions are there, and a mean takes all",
            "extract every released archive there",
            code="E-DATA",
        )
