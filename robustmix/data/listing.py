"""Which images a folder holds: its splits, its classes, and the files of each.

What could be meant in two ways is refused: labels go by the names of folders, and a wrong guess
gives numbers that nobody sees to be wrong.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from robustmix.data.class_order import in_class_order, order_note
from robustmix.data.manifests import Split
from robustmix.errors import IntakeError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
UNREAD = (".avif", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".pnm", ".tga")
"""Endings of images that are passed over, as torchvision does; they are counted."""

Kind = Literal["train", "test", "val"]
SPLIT_KINDS: dict[Split, tuple[Kind, ...]] = {"train": ("train",), "test": ("test", "val")}
"""Where a split's images are looked for, in this order."""

_WORDS: dict[Kind, str] = {
    "train": "train|training",
    "test": "test|testing",
    "val": "val|valid|validation",
}
_SPLIT_NAMES = {
    kind: re.compile(rf"({words})(set|data|images|imgs|split)?(\d{{4}})?")
    for kind, words in _WORDS.items()
}
_LIKE_A_CLASS = ("train", "valid")
"""Split names that a class may have: a vehicle, what is not invalid."""

_NUMBERED = re.compile(r"(cv|fold|part|partition|split|subset)[-_ ]?\d+")
_ONE_FOLDER = ("images", "imgs", "image", "img")
"""A folder that holds all images of a split, whatever their class (Tiny-ImageNet)."""


class Listing(NamedTuple):
    """The images of one split: classes in their order, files sorted by path."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]  # relative to root, forward slashes
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()  # what a report should warn of


def list_folder(path: Path, split: Split) -> Listing:
    """Find the images of one split of a folder data set.

    ``path`` holds ``train`` and ``test`` (or ``val``), in any case or as ``training``,
    ``test_set`` and the like, with one folder a class each; or the class folders themselves, which
    are then the test split. Classes are in the order of their names, or, where all are numbers, of
    these, which a note says where it is another. Linked folders are followed; each is read once a
    class.

    Raises:
        IntakeError: nothing is there or may be read, images lie in no class folder, a class has no
            images, the test split has a class that the training split lacks, or folders look like
            splits where classes are expected.
    """
    if not is_folder(path):
        raise IntakeError(f"no folder at {path}", "check the path", code="E-DATA")
    roots = _find_splits(path)
    notes: list[str] = []
    if roots or split == "train":
        root = _choose(path, roots, split, notes)
    else:
        root = path
        _refuse_splits(path)
    found = {name: _images_below(root / name) for name in _subfolders(root)}
    train_root = roots.get("train")
    classes = in_class_order(
        list(found) if train_root in (None, root) else _subfolders(train_root or root)
    )
    _check_classes(root, train_root, classes, found)
    places = {name: label for label, name in enumerate(classes)}
    return Listing(
        root=root,
        classes=tuple(classes),
        files=tuple(f"{name}/{file}" for name in found for file in found[name].files),
        labels=tuple(places[name] for name in found for _ in found[name].files),
        notes=(*notes, *filter(None, [order_note(classes)]), *_notes(found)),
    )


def list_unlabelled(path: Path) -> Listing:
    """Find the images of a folder that need no labels, at any depth.

    Where ``path`` holds a test split (see ``list_folder``) they are those of the split, else all.
    Linked folders are followed; each is read once.

    Returns:
        No classes and no labels.

    Raises:
        IntakeError: nothing is there or may be read, or there are no images.
    """
    if not is_folder(path):
        raise IntakeError(f"no folder at {path}", "check the path", code="E-DATA")
    roots = _find_splits(path)
    root = next((roots[kind] for kind in SPLIT_KINDS["test"] if kind in roots), path)
    found = _images_below(root)
    if not found.files:
        raise _bad(f"{root} holds no images", f"known extensions: {' '.join(EXTENSIONS)}")
    return Listing(root, (), tuple(found.files), (), tuple(_notes({"": found})))


def _check_classes(
    root: Path, train_root: Path | None, classes: Sequence[str], found: Mapping[str, "_Found"]
) -> None:
    if len(classes) < 2:
        _refuse_empty(root, [name for name in found if not found[name].files])
    extra = sorted(set(found) - set(classes))
    if extra:
        raise _bad(
            f"{root / extra[0]} is a class that {train_root} does not have",
            "give both splits the same class folders",
        )
    for name in found:
        inside = {kind for folder in _subfolders(root / name) if (kind := _kind(folder))}
        if len(inside) > 1:
            raise _bad(
                f"{root / name} holds splits ({' and '.join(sorted(inside))})",
                "put class folders into split folders, not the other way round",
            )
    empty = [name for name in found if not found[name].files]
    if empty:
        _refuse_empty(root, empty)


def _refuse_empty(root: Path, empty: Sequence[str]) -> NoReturn:
    hint = _elsewhere(root) or f"known extensions: {' '.join(EXTENSIONS)}"
    if empty:
        raise _bad(f"{root / empty[0]} holds no images", hint)
    if (count := _count_images(root)) > 0:
        raise _flat(root, count)
    raise _bad(f"{root} has not two class folders", hint)


def _elsewhere(path: Path) -> str | None:
    """Say where the splits are, if they are deeper than was said."""
    inside = [path / name for name in _subfolders(path)]
    for place in (*inside, path / "Data" / "CLS-LOC"):  # ImageNet as unpacked
        if is_folder(place) and {"train", "val"} & _find_splits(place).keys():
            return f"the splits are in {place}: give that folder"
    return None


def _find_splits(path: Path) -> dict[Kind, Path]:
    """Find the folders of the splits; none where ``path`` holds class folders."""
    folders = _subfolders(path)
    named: dict[Kind, list[str]] = {}
    for name in folders:
        if kind := _kind(name):
            named.setdefault(kind, []).append(name)
    roots = {kind: path / _one_of(path, kind, names) for kind, names in named.items()}
    alone = [name for names in named.values() for name in names]
    others = [path / name for name in folders if not _kind(name)]
    if len(alone) == 1 and alone[0].lower() in _LIKE_A_CLASS and any(map(_count_images, others)):
        return roots if _subfolders(path / alone[0]) else {}  # a class like the others
    return roots


def _kind(name: str) -> Kind | None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((kind for kind, names in _SPLIT_NAMES.items() if names.fullmatch(plain)), None)


def _one_of(path: Path, kind: Kind, names: Sequence[str]) -> str:
    if len(names) == 1 or kind in names:
        return kind if kind in names else names[0]
    raise _bad(f"{path} holds several {kind} splits ({', '.join(names)})", "keep one of them there")


def _choose(path: Path, roots: Mapping[Kind, Path], split: Split, notes: list[str]) -> Path:
    """Choose the folder of a split: the first that has class folders."""
    there = [roots[kind] for kind in SPLIT_KINDS[split] if kind in roots]
    chosen = next((root for root in there if _class_folders(root)), None)
    if chosen is None:
        for root in reversed(there):
            inside = next((root / n for n in _subfolders(root) if n.lower() in _ONE_FOLDER), root)
            if (count := _count_images(inside)) > 0:
                raise _flat(inside, count)
        if there:
            _refuse_empty(there[0], [])
        raise _bad(
            f"{path} has no {split} split",
            _elsewhere(path) or f"put one folder a class below {path / SPLIT_KINDS[split][0]}",
        )
    if chosen != there[0]:
        notes.append(
            f"{there[0].name} holds no class folders and so no labels: the images are those of "
            f"{chosen.name}"
        )
    return chosen


def _flat(folder: Path, count: int) -> IntakeError:
    """Make the error for images that lie in no class folder."""
    annotations = folder.parent / "val_annotations.txt"
    where = f" as {annotations} says" if annotations.is_file() else ""
    return _bad(
        f"{folder} holds {count} image{'s' * (count > 1)} and no class folders, so they have no "
        "labels",
        f"put each into a folder named as its class{where}",
    )


def _class_folders(root: Path) -> list[str]:
    """Name the folders of classes; one that holds all images of a split is none."""
    folders = _subfolders(root)
    return [] if len(folders) == 1 and folders[0].lower() in _ONE_FOLDER else folders


def _refuse_splits(path: Path) -> None:
    """Refuse folders that are to be classes and look like splits."""
    names = _subfolders(path)
    said = {name: kinds for name in names if (kinds := _kinds_said(name))}
    several = len(set().union(*said.values())) > 1 if said else False
    if (several and 2 * len(said) >= len(names)) or _alike(path, names):
        shown = ", ".join(names[:4])
        raise _bad(
            f"the folders of {path} look like splits, not like classes ({shown})",
            "call them train and test, or rename classes; images of a class lie in its folder",
        )


def _alike(path: Path, names: Sequence[str]) -> bool:
    """Say whether a few folders, or numbered ones, hold nothing but folders of the same names."""
    if len(names) < 2 or not (
        len(names) <= 4 or all(_NUMBERED.fullmatch(n.lower()) for n in names)
    ):
        return False
    inside = {frozenset(_subfolders(path / name)) for name in names}
    same = len(inside) == 1 and len(next(iter(inside))) > 1
    return same and not any(_count_images(path / name) for name in names)


def _kinds_said(name: str) -> set[Kind]:
    """Return the splits that a name speaks of in one of its words, e.g. ``my-train_2``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[a-z]+", spaced.lower())
    return {kind for kind in _WORDS for word in words if re.fullmatch(_WORDS[kind], word)}


@dataclass
class _Found:
    """What was found below one class folder."""

    files: list[str] = field(default_factory=list)
    """Relative to it, sorted."""

    linked: int = 0
    """Of the files, how many lie in linked folders."""

    repeated: int = 0
    """Links to folders that are read anyway; they may lead in a circle."""

    unread: Counter[str] = field(default_factory=Counter)
    """Endings of images that are passed over."""


def _images_below(top: Path) -> _Found:
    """Find images at any depth; real folders first, so that a link never hides one."""
    found = _Found()
    seen = {_place(folder) for folder in top.resolve().parents}  # a link to one leads in a circle
    folders, links = [(top, False)], list[Path]()
    while folders or links:
        folder, linked = folders.pop() if folders else (links.pop(0), True)
        place = _place(folder)
        if place in seen:
            found.repeated += 1
            continue
        seen.add(place)
        for entry in _entries(folder):
            if not _is_folder(entry):
                _take(found, top, entry, linked)
            elif entry.is_symlink():
                links.append(Path(entry.path))
            else:
                folders.append((Path(entry.path), linked))
    found.files.sort()
    return found


def _place(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, by whatever path it is reached."""
    try:
        status = folder.stat()
    except OSError as error:
        raise unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _take(found: _Found, top: Path, entry: os.DirEntry[str], linked: bool) -> None:
    ending = Path(entry.name).suffix.lower()
    if ending in UNREAD:
        found.unread[ending] += 1
    if not entry.name.lower().endswith(EXTENSIONS):
        return
    file = Path(entry.path).relative_to(top).as_posix()
    if not f"{top.name}/{file}".isprintable():
        raise _bad(f"the name of {entry.path!s} is not printable UTF-8", "rename it")
    found.files.append(file)
    found.linked += linked


def _notes(found: Mapping[str, _Found]) -> Iterator[str]:
    total = sum(len(one.files) for one in found.values())
    if linked := sum(one.linked for one in found.values()):
        yield f"{linked} of {total} images lie in linked folders"
    if repeated := sum(one.repeated for one in found.values()):
        yield f"{repeated} links to folders that are read anyway were not followed"
    unread = sum((one.unread for one in found.values()), Counter[str]())
    if unread:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(unread.items()))
        yield f"{unread.total()} files were passed over, whose endings are not read ({kinds})"


def is_folder(path: Path) -> bool:
    """Say whether a folder, or a link to one, is at ``path``; what cannot be is none.

    Raises:
        IntakeError: the system does not let it be looked at.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what lies in a folder and is not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        raise unreadable(folder, error) from error


def _subfolders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()  # asks the system about links alone
    except OSError:  # a link to itself
        return False


def _count_images(folder: Path) -> int:
    """Count the images that lie in a folder itself."""
    return sum(entry.name.lower().endswith(EXTENSIONS) for entry in _entries(folder))


def unreadable(path: Path, error: OSError) -> IntakeError:
    """Make the error for a path that the system does not let us look at."""
    return _bad(f"cannot read {path}: {error.strerror}", "check the path and its rights")


def _bad(what: str, hint: str) -> IntakeError:
    return IntakeError(what, hint, code="E-DATA")
