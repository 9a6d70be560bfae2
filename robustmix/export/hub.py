"""Put a folder on the Hugging Face hub, by its own client."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robustmix.errors import IncompleteError, UsageError
from robustmix.text import plain

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

CODE = "E-PUSH"


@dataclass(frozen=True)
class Hub:
    """A repository that may be written to."""

    api: "HfApi"
    name: str
    private: bool

    def push(self, folder: Path) -> str:
        """Make the repository if there is none, commit a folder to it, and return its address.

        Raises:
            IncompleteError: it cannot be done; the folder stays.
        """
        with _told(self.name, folder):
            self.api.create_repo(self.name, private=self.private or None, exist_ok=True)
            if self.private and not self.api.model_info(self.name).private:
                raise IncompleteError(
                    f"{self.name} is public, and --private was asked for: nothing was pushed",
                    "make it private on the hub, or leave --private out",
                    code=CODE,
                )
            commit = self.api.upload_folder(
                repo_id=self.name, folder_path=folder, commit_message="robustmix export"
            )
        return str(commit.commit_url)


def check_login(name: str) -> None:
    """Check the name of a repository and that somebody is logged in; the network is not asked.

    Raises:
        UsageError: it is no name of a repository.
        IncompleteError: nobody is logged in.
    """
    if not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise UsageError(
            f"'{plain(name, 80)}' is no repository of the hub",
            "write --push OWNER/NAME, of letters, digits, and single - _ .",
            code=CODE,
        )
    from huggingface_hub import get_token

    if get_token() is None:
        raise IncompleteError(
            f"nothing can be pushed to {name}: you are not logged in to the Hugging Face hub",
            "log in with `hf auth login`, or set HF_TOKEN",
            code=CODE,
        )


def open_hub(name: str, *, private: bool = False) -> Hub:
    """Ask the hub who is logged in.

    Raises:
        IncompleteError: the hub cannot be reached, or does not know the token.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _told(name, None):
        api.whoami()
    return Hub(api, name, private)


@contextlib.contextmanager
def _told(name: str, folder: Path | None) -> Iterator[None]:
    """Say in a line why the hub did not take it."""
    kept = "" if folder is None else f"; {folder} is whole and can be pushed later"
    try:
        yield
    except IncompleteError:
        raise
    except Exception as error:  # of the client, of what it calls the network with, of the system
        raise IncompleteError(
            f"nothing was pushed to {name}: {_why(error)}",
            f"{_what_to_do(error)}{kept}",
            code=CODE,
        ) from error


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _why(error: Exception) -> str:
    known = {
        401: "the hub does not know your token",
        403: "you have no right to write there",
        404: "there is no such owner, or you have no right to write there",
    }
    status = _status(error)
    if status is None:
        return f"the hub cannot be reached ({plain(' '.join(str(error).split()), 120)})"
    return known.get(status, f"the hub answered {status}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    said = getattr(error, "server_message", None) or str(error)
    return plain(" ".join(str(said).split()), 160)


def _what_to_do(error: Exception) -> str:
    status = _status(error)
    if status is None:
        return "look after the network, HF_ENDPOINT and HF_HUB_OFFLINE"
    if status == 401:
        return "log in again with `hf auth login`"
    if status in (403, 404):
        return "take a token that may write, and an owner that you may write for"
    return "try again"
