"""Where runs are kept when nobody says where."""

import os
import re
from datetime import date
from pathlib import Path

from robustmix.files import expanded, hash_json


def runs_folder() -> Path:
    """Return ``$ROBUSTMIX_RUNS``, else ``runs`` in the current folder."""
    return expanded(os.environ.get("ROBUSTMIX_RUNS") or "runs")


def training_folder(recipe: dict[str, object], *names: str) -> Path:
    """Return the folder of a training run: the same recipe always gets the same one.

    So ``robustmix train`` with the same arguments continues the run it began.
    """
    return runs_folder() / f"{_safe('-'.join(names))}-{hash_json(recipe)[:4]}"


def study_folder(name: str, asked: dict[str, object]) -> Path:
    """Return the folder of a study: the same one for the same study, so that it goes on there."""
    return runs_folder() / f"study-{_safe(name)}-{hash_json(asked)[:4]}"


def evaluation_folder(model: str, asked: dict[str, object], *, earlier: bool = False) -> Path:
    """Return ``runs/<date>-<model>-<hash4>``, the hash being over what was asked for.

    Args:
        model: its name.
        asked: what was asked for.
        earlier: take the latest folder of the same name and hash, whatever its date, if there is
            one: it is to be continued.
    """
    name = f"{_safe(model)}-{hash_json(asked)[:4]}"
    found = sorted(runs_folder().glob(f"{'[0-9]' * 4}-[0-9][0-9]-[0-9][0-9]-{name}"))
    today = runs_folder() / f"{date.today().isoformat()}-{name}"
    return found[-1] if earlier and found else today


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
