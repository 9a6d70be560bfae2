"""Models of the Hugging Face hub by name, ``hf-hub:OWNER/NAME[@REVISION]``, through its cache.

The library ``huggingface_hub`` finds, caches and verifies files; its own settings (``HF_HOME``,
``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``) hold. What is read of the files, and how, is the
same as for a folder.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robustmix.errors import IntakeError, UsageError
from robustmix.models.recorded import CONFIG, MOST_TEXT, PREPROCESSOR, WEIGHTS
from robustmix.text import plain

HUB = "hf-hub:"

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"({_PART}(?:/{_PART})?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

TEXTS = (CONFIG, PREPROCESSOR)
"""Files that are read as text, which have a bound."""


@dataclass(frozen=True, kw_only=True)
class HubName:
    """What ``hf-hub:OWNER/NAME[@REVISION]`` names."""

    repo: str
    revision: str
    """A commit, branch or tag."""

    def __str__(self) -> str:
        return f"{HUB}{self.repo}" + ("" if self.revision == "main" else f"@{self.revision}")

    @classmethod
    def parse(cls, source: str) -> "HubName":
        """Read a model's name.

        Raises:
            UsageError: it is of another form.

        Example:
            >>> HubName.parse("hf-hub:timm/resnet18.a1_in1k")
            HubName(repo='timm/resnet18.a1_in1k', revision='main')
        """
        found = _NAME.fullmatch(source.removeprefix(HUB))
        if found is None or ".." in source or "--" in found[1]:
            raise UsageError(
                f"'{plain(source, 200)}' names no model of the Hugging Face hub",
                f"write {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION",
                code="E-HUB",
            )
        return cls(repo=found[1], revision=found[2] or "main")


@dataclass(frozen=True, kw_only=True)
class HubFolder:
    """A model's files on this machine."""

    folder: Path
    name: str
    """What it is called in reports: with the commit, where that is known."""


def hub_folder(source: str, *, allow_download: bool) -> HubFolder:
    """Find a model's files in the local cache, else fetch them.

    Args:
        source: ``hf-hub:OWNER/NAME[@REVISION]``.
        allow_download: fetch what is not in the cache.

    Raises:
        UsageError: the name is of another form.
        IntakeError: the model is not in the cache and must not or cannot be fetched, there is no
            such model, or it is none of timm's or transformers'.
    """
    wanted = HubName.parse(source)
    found = _cached(wanted)
    if found is None:
        if not allow_download:
            raise IntakeError(
                f"{wanted} is not in the local cache",
                "pass --allow-download to fetch it",
                code="E-NO-WEIGHTS",
            )
        with _told(wanted):
            found = _fetched(wanted)
    commit = found.name if _COMMIT.fullmatch(found.name) else wanted.revision
    return HubFolder(folder=found, name=f"{HUB}{wanted.repo}@{commit}")


def _cached(wanted: HubName) -> Path | None:
    """Return the folder of a snapshot that has a configuration and weights."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(wanted.repo, CONFIG, revision=wanted.revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if any((folder / name).is_file() for name in WEIGHTS) else None


def _fetched(wanted: HubName) -> Path:
    from huggingface_hub import hf_hub_download

    folder, commit = _text(wanted, CONFIG, wanted.revision)
    with _absent():  # timm's have none
        _text(wanted, PREPROCESSOR, commit)
    for name in WEIGHTS:
        with _absent():
            hf_hub_download(wanted.repo, name, revision=commit)
            return folder
    raise IntakeError(
        f"{wanted} has no weights in one file of torch or safetensors",
        "expected " + " or ".join(WEIGHTS),
        code="E-NO-FILE",
    )


@contextmanager
def _absent() -> Iterator[None]:
    """Pass over a file that the hub says it does not have."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        yield
    except LocalEntryNotFoundError:  # it could not be asked
        raise
    except EntryNotFoundError:
        pass


def _text(wanted: HubName, name: str, revision: str) -> tuple[Path, str]:
    """Fetch a small file; return its folder and the commit that it is of."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    told = get_hf_file_metadata(hf_hub_url(wanted.repo, name, revision=revision))
    if told.size is None or told.size > MOST_TEXT:
        raise IntakeError(
            f"{wanted}: {name} has {told.size} bytes, which no configuration has",
            code="E-TOO-LARGE",
        )
    # By the revision as it was named, so that the cache knows it by that name too.
    path = Path(hf_hub_download(wanted.repo, name, revision=revision))
    return path.parent, told.commit_hash or revision


_REASONS = {
    "RevisionNotFoundError": ("has no such revision", "check what follows the @"),
    "GatedRepoError": ("is gated", "accept its terms on the hub, and set HF_TOKEN"),
    "RepositoryNotFoundError": (
        "is not on the hub, or is private",
        "check the name, or set HF_TOKEN",
    ),
    "DisabledRepoError": ("is disabled on the hub", "take another model"),
    "RemoteEntryNotFoundError": (
        f"has no {CONFIG}",
        "give a model of timm or of transformers, or the file of weights with --arch",
    ),
    "OfflineModeIsEnabled": (
        "is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it",
        "unset HF_HUB_OFFLINE",
    ),
}
"""By the name of the library's exception, whose classes have moved between versions."""


@contextmanager
def _told(wanted: HubName) -> Iterator[None]:
    """Turn whatever the library and its transport raise into one line.

    Raises:
        IntakeError: in place of it.
    """
    try:
        yield
    except IntakeError:
        raise
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        known = next((_REASONS[kind] for kind in kinds if kind in _REASONS), None)
        if known is not None:
            raise IntakeError(f"{wanted} {known[0]}", known[1], code="E-NO-WEIGHTS") from error
        why = plain(" ".join(str(error).split()), 120) or type(error).__name__
        raise IntakeError(
            f"{wanted} could not be fetched ({why})",
            "check the network and try again",
            code="E-NO-WEIGHTS",
        ) from error
