"""Data sets of Hugging Face's library ``datasets``, as items that evaluation reads one by one.

``hf:NAME``, ``hf:NAME:CONFIG`` and ``hf:NAME@SPLIT``: a name on the hub, or the path of a folder of
images or parquet files. The library's own settings decide what is cached and whether it may ask the
network (``HF_HOME``, ``HF_DATASETS_OFFLINE``). Encoded images are decoded here, within our bounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from robustmix.data.decode import bytes_rgb, open_rgb
from robustmix.data.items import IMAGE_KEYS, LABEL_KEYS
from robustmix.errors import IntakeError
from robustmix.text import plain

HF = "hf:"
TEST_SPLITS = ("test", "validation", "val")
"""Which split is evaluated if none is named, in this order."""


@dataclass(frozen=True, kw_only=True)
class HfName:
    """What a name after ``hf:`` says."""

    path: str
    config: str | None
    split: str | None

    @classmethod
    def parse(cls, name: str) -> "HfName":
        """Take a name apart.

        Example:
            >>> HfName.parse("hf:beans:small@test")
            HfName(path='beans', config='small', split='test')
        """
        rest, _, split = name.removeprefix(HF).partition("@")
        path, _, config = rest.partition(":")
        return cls(path=path, config=config or None, split=split or None)


class HfItems(Dataset[tuple[NDArray[np.uint8], int]]):
    """The images and labels of one split.

    Args:
        name: ``hf:NAME[:CONFIG][@SPLIT]``.

    Raises:
        IntakeError: the library is not installed, or cannot read the data set; the data set has
            no such split, or not one column of images and one of class labels.
    """

    def __init__(self, name: str) -> None:
        library = _library()
        wanted = HfName.parse(name)
        if not wanted.path:
            raise _bad(f"{name} names no data set", "give hf:NAME, or hf:FOLDER")
        try:
            split = wanted.split or _test_split(library, wanted)
            rows = library.load_dataset(wanted.path, wanted.config, split=split)
        except IntakeError:
            raise
        except Exception as error:  # whatever the library, its readers and the network raise
            what = plain(str(error), 200) or type(error).__name__
            raise _bad(
                f"the library datasets cannot read {plain(name, 80)}: {what}",
                "check name, configuration and split, and whether it may be downloaded",
            ) from error
        features: Mapping[str, Any] = rows.features
        self.image = _only(features, library.Image, IMAGE_KEYS, "images", name)
        self.label = _only(features, library.ClassLabel, LABEL_KEYS, "class labels", name)
        self.classes: Sequence[str] = features[self.label].names
        self.rows = rows.cast_column(self.image, library.Image(decode=False))
        self.robustmix_name = f"{HF}{wanted.path}" + (f":{wanted.config}" if wanted.config else "")
        self.split = split

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        row = self.rows[index]
        stored, label = row[self.image], row[self.label]
        where = f"image {index} of {self.robustmix_name}"
        if label is None:
            raise _bad(f"{where} has no label", "choose a split with labels: hf:NAME@SPLIT")
        if stored is None or not (stored.get("bytes") or stored.get("path")):
            raise _bad(f"{where} is empty", "choose a split with images: hf:NAME@SPLIT")
        if stored.get("bytes"):
            return bytes_rgb(stored["bytes"], where), int(label)
        return np.asarray(open_rgb(Path(stored["path"]))), int(label)  # a file beside the table


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise IntakeError(
            "data sets hf:NAME are read by the package datasets, which is not installed",
            "pip install 'robustmix[hf]'",
            code="E-DATA",
        ) from error
    return datasets


def _test_split(library: Any, wanted: HfName) -> str:
    names = library.get_dataset_split_names(wanted.path, wanted.config)
    found = next((split for split in TEST_SPLITS if split in names), None)
    if found is None:
        raise _bad(
            f"{plain(wanted.path, 80)} has no test split, but {', '.join(map(str, names))}",
            "name the split: hf:NAME@SPLIT",
        )
    return found


def _only(
    features: Mapping[str, Any], kind: type, usual: Sequence[str], what: str, name: str
) -> str:
    """Return the one column of a kind, or of several the one with a usual name."""
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    named = [column for column in usual if column in found]
    if len(found) != 1 and not named:
        raise _bad(
            f"{plain(name, 80)} has {len(found)} columns of {what} among "
            f"{plain(', '.join(features), 120)}",
            f"give a data set with one, or one called {usual[0]}",
        )
    return named[0] if named else found[0]


def _bad(what: str, hint: str) -> IntakeError:
    return IntakeError(what, hint, code="E-DATA")
