"""ObjectNet: photographs of 313 kinds of household objects, 113 of which ImageNet knows.

Barbu et al. 2019, "ObjectNet: a large-scale bias-controlled dataset". Several outputs stand for one
object: the prediction is the largest of all 1,000, looked up in the table of the released
``mappings``; one that stands for no object is wrong. The red frame of 2 pixels is cut off.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from robustmix.data.images import ImageSet
from robustmix.data.manifests import load_manifest
from robustmix.data.shift.sets import ShiftSet, image_files, list_images, subfolders
from robustmix.errors import IntakeError
from robustmix.files import regular_file

BORDER = 2
"""Pixels of the frame, at each side."""

OUTPUTS, OVERLAP = 125, 113
"""Outputs that stand for an object, and objects that some output stands for, as published."""

_LARGEST = 2**22
_AGAIN = "extract objectnet-1.0.zip again, with its folder mappings"


def open_objectnet(name: str, place: Path, like: ImageSet) -> ShiftSet:
    """Open ObjectNet; objects are numbered by the sorted names of their folders, known ones first.

    Raises:
        IntakeError: a mapping or a folder is missing, damaged or does not fit the others.
    """
    table = read_table(place / "mappings", len(like.class_names))
    root = place / "images"
    folders = subfolders(root)
    if not folders:
        raise IntakeError(f"{root} holds no folder an object", _AGAIN, code="E-DATA")
    # The objects that outputs stand for come first, so that their numbers tell them apart.
    folders.sort(key=lambda folder: (folder not in table, folder))
    mapping = [-1] * len(like.class_names)
    for number, folder in enumerate(folders):
        for output in table.get(folder, ()):
            mapping[output] = number
    listed = list_images(root, folders)
    known = sum(folder in table for folder in folders)
    outputs = sum(number >= 0 for number in mapping)
    notes: tuple[str, ...] = ()
    if (outputs, known) != (OUTPUTS, OVERLAP):
        notes = (
            f"{outputs} outputs stand for {known} objects, {OUTPUTS} for {OVERLAP} were published",
        )
    return ShiftSet(
        images=image_files(name, root, listed.files, listed.folders, like, border=BORDER),
        mapping=tuple(mapping),
        expected=load_manifest(name).counts.test,
        notes=notes,
    )


def read_table(mappings: Path, outputs: int) -> dict[str, tuple[int, ...]]:
    """Read which outputs stand for the object of each folder; folders without any are left out.

    Args:
        mappings: the folder of the four released files.
        outputs: number of outputs of the model.

    Raises:
        IntakeError: a file is missing or damaged, or an output stands for two objects.
    """
    labels = _table(mappings / "folder_to_objectnet_label.json")
    objects = _table(mappings / "objectnet_to_imagenet_1k.json")
    # Line of the list of words -> output; the file has it the other way round.
    of_line = {int(str(line)): int(out) for out, line in _numbers(mappings).items()}
    words_file = regular_file(
        mappings / "imagenet_to_label_2012_v2", limit=_LARGEST, hint=_AGAIN, code="E-DATA"
    )
    words = {line.strip(): i for i, line in enumerate(_text(words_file).splitlines())}
    folder_of = {str(label): folder for folder, label in labels.items()}
    found: dict[str, tuple[int, ...]] = {}
    for label, said in objects.items():
        try:
            known = tuple(sorted(of_line[words[one]] for one in str(said).split("; ")))
            found[folder_of[label]] = known
        except KeyError as error:
            raise _bad(mappings, f"{label!r:.40} leads to {error.args[0]!r:.60}") from None
    every = [output for known in found.values() for output in known]
    if len(set(every)) != len(every) or not every or not 0 <= min(every) <= max(every) < outputs:
        raise _bad(mappings, "an output stands for two objects, or is none of the model's")
    return found


def _numbers(mappings: Path) -> dict[str, object]:
    table = _table(mappings / "pytorch_to_imagenet_2012_id.json")
    if not all(key.isdecimal() and str(value).isdecimal() for key, value in table.items()):
        raise _bad(mappings, "pytorch_to_imagenet_2012_id.json is not of numbers")
    return table


def _table(path: Path) -> dict[str, object]:
    regular_file(path, limit=_LARGEST, hint=_AGAIN, code="E-DATA")
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise _bad(path, type(error).__name__) from error
    if not isinstance(found, Mapping):
        raise _bad(path, "it is no table")
    return dict(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, type(error).__name__) from error


def _bad(path: Path, why: str) -> IntakeError:
    return IntakeError(f"{path} cannot be used: {why}", _AGAIN, code="E-DATA")
