"""Where data sets lie."""

import os
from pathlib import Path

import platformdirs


def data_folder(data_dir: Path | None) -> Path:
    """Return where data sets lie: the argument, else ``$ROBUSTMIX_DATA``, else the user's folder.

    Example:
        >>> data_folder(Path("/data")).as_posix()
        '/data'
    """
    if data_dir is not None:
        return Path(data_dir).expanduser()
    named = os.environ.get("ROBUSTMIX_DATA")
    if named:
        return Path(named).expanduser()
    return platformdirs.user_data_path("robustmix", appauthor=False) / "data"
