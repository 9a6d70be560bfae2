"""ImageNet-P and Tiny-ImageNet-P: one film a test image, ``<perturbation>/<wnid>/<image>.mp4``.

The pictures have their final size: nothing is resized. A folder of pictures in the place of a film,
``<image>/0.png``, ``<image>/1.png``, ..., is read too, in the order of their numbers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.corruptions.folder_c import assigned, class_listing
from robustmix.data.decode import open_rgb, read_header
from robustmix.data.listing import EXTENSIONS
from robustmix.data.perturbed.arrays import MOST_PICTURES
from robustmix.data.perturbed.names import stored_name
from robustmix.data.threads import in_threads
from robustmix.errors import IntakeError
from robustmix.files import regular_file
from robustmix.later import Tensor, torch

FILM = ".mp4"
_AGAIN = "extract the released archive again"
_FILM_BYTES = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmSequences:
    """The sequences of test images that lie as films or as folders of pictures."""

    folder: Path
    places: Mapping[str, str]
    """Perturbation -> the folder that it is stored in."""

    films: tuple[str, ...]
    """``<wnid>/<film>`` of each test image, the same under every perturbation."""

    side: int
    lengths: Mapping[str, int]
    """Perturbation -> pictures of a sequence, those of its first film."""

    @classmethod
    def open(
        cls,
        folder: Path,
        names: Sequence[str],
        difficulty: int,
        *,
        dataset: str,
        class_names: Sequence[str],
        labels: Tensor,
        files: Sequence[str],
        side: int,
    ) -> "FilmSequences":
        """Open the folders of some perturbations, and check that they are of the test images.

        Args:
            folder: holds the perturbations' folders.
            names: perturbations.
            difficulty: 1 to 3.
            dataset: ``imagenet-1k``, whose films bear the names of the images, or
                ``tiny-imagenet``, whose films are of other photographs of the same classes.
            class_names: WordNet ids in the order of the labels.
            labels: of the whole test set (N,).
            files: names of its image files.
            side: of the pictures in pixels.

        Raises:
            IntakeError: a folder is missing or holds others than the test images, or a film cannot
                be read.
        """
        places = {name: stored_name(name, difficulty) for name in names}
        films: tuple[str, ...] = ()
        for place in places.values():
            listing = class_listing(folder / place, class_names)
            found = assigned(folder / place, listing, dataset, class_names, labels, files)
            if films and found != films:
                raise IntakeError(
                    f"{folder / place} does not hold the films of the other perturbations",
                    _AGAIN,
                    code="E-DATA",
                )
            films = found
        lengths = {
            name: len(read_film(folder / place / films[0], side)) for name, place in places.items()
        }
        return cls(folder=folder, places=places, films=films, side=side, lengths=lengths)

    def pictures(self, name: str) -> int:
        """Give how many pictures a sequence has."""
        return self.lengths[name]

    def take(self, name: str, indices: Tensor) -> Tensor:
        """Read sequences uint8 (n, pictures, 3, side, side) for positions in the test set.

        Raises:
            IntakeError: a film cannot be read, or has another number of pictures than the first.
        """
        root, length = self.folder / self.places[name], self.lengths[name]

        def read(index: int) -> NDArray[np.uint8]:
            path = root / self.films[index]
            film = read_film(path, self.side)
            if len(film) != length:
                raise _bad(path, f"{len(film)} pictures, the first film has {length}")
            return film

        stacked = np.stack(in_threads(read, indices.tolist()))
        return torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).contiguous()


def read_film(path: Path, side: int) -> NDArray[np.uint8]:
    """Read every picture of a film, or of a folder of pictures, uint8 (pictures, side, side, 3).

    Raises:
        IntakeError: it cannot be read, its pictures have another size, or there are fewer than two
            or more than ``MOST_PICTURES``; or it is a film and PyAV is not installed.
    """
    pictures = _folder(path, side) if path.is_dir() else _film(path, side)
    if len(pictures) < 2:
        raise _bad(path, f"{len(pictures)} pictures are no sequence")
    return np.stack(pictures)


def _folder(path: Path, side: int) -> list[NDArray[np.uint8]]:
    files = [one for one in path.iterdir() if one.suffix.lower() in EXTENSIONS]
    numbers = {one: re.search(r"(\d{1,9})$", one.stem) for one in files}
    if len(files) > MOST_PICTURES or not all(numbers.values()):
        raise _bad(path, "its pictures are too many, or bear no numbers")
    # By number, not by name: 10.png stands behind 9.png.
    order = sorted(files, key=lambda one: int(found[1]) if (found := numbers[one]) else -1)
    for one in order:
        if read_header(one)[:2] != (side, side):
            raise _bad(one, f"it is not of {side}x{side} pixels")
    return [np.asarray(open_rgb(one)) for one in order]


def _film(path: Path, side: int) -> list[NDArray[np.uint8]]:
    av = _decoder()
    regular_file(path, what="film", limit=_FILM_BYTES, hint=_AGAIN, code="E-DATA")
    pictures: list[NDArray[np.uint8]] = []
    try:
        # The format is said, for others fetch from addresses or other files.
        with av.open(str(path), format="mp4") as film:
            stream = film.streams.video[0]
            size = stream.codec_context.width, stream.codec_context.height
            if size != (side, side):
                raise _bad(path, f"{size[0]}x{size[1]} pixels, expected {side}x{side}")
            for picture in film.decode(stream):
                if len(pictures) == MOST_PICTURES or (picture.width, picture.height) != size:
                    raise _bad(path, "too many pictures, or of several sizes")
                pictures.append(picture.to_ndarray(format="rgb24"))
    except IntakeError:
        raise
    except Exception as error:  # PyAV's own, of a damaged file
        raise _bad(path, " ".join(str(error).split()) or type(error).__name__) from error
    return pictures


def _decoder() -> Any:
    try:
        import av
    except ImportError as error:
        raise IntakeError(
            "films are decoded by PyAV, which is not installed",
            "pip install 'robustmix[video]', or put a folder of numbered pictures in the place of "
            "each film",
            code="E-NO-PYAV",
        ) from error
    return av


def _bad(path: Path, why: str) -> IntakeError:
    return IntakeError(f"{path}: {why}", _AGAIN, code="E-DATA")
