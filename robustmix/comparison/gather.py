"""The shards that processes of one launch evaluate side by side, awaited and joined by the first.

Nothing passes between the processes but the files of their reports.
"""

import time
from pathlib import Path

from robustmix.comparison.shards import joined_shards
from robustmix.errors import RobustmixError
from robustmix.report.report import REPORT_FILE, Report, read_report

ASK_SECONDS = 0.5
"""Between two looks at what the others have left."""


def shard_folder(out: Path, index: int, count: int) -> Path:
    """Return where a process leaves its shard of the report that goes to ``out``."""
    return out / "shards" / f"{index}-of-{count}"


def gather_shards(own: Report, out: Path) -> Report:
    """Wait for the other shards of an evaluation, join all, and write the report.

    It waits as long as it takes: whoever started the processes ends them all when one fails.

    Args:
        own: the finished shard of this process.
        out: the folder of the report, which the others' are in, see ``shard_folder``.

    Raises:
        IncompatibleError: the shards are not of one evaluation.
        IncompleteError: the report cannot be written.
    """
    shard = own.content.dataset.shard
    assert shard is not None, "whoever gathers has evaluated a share"
    others = [i for i in range(1, shard.count + 1) if i != shard.index]
    folders = [shard_folder(out, i, shard.count) for i in others]
    while not all(_finished(folder, own) for folder in folders):
        time.sleep(ASK_SECONDS)
    merged = joined_shards([own, *(Report.load(folder) for folder in folders)])
    merged.content.run = merged.content.run.model_copy(update={"name": out.name})
    merged.save(out)
    return merged


def _finished(folder: Path, own: Report) -> bool:
    """Tell whether a finished shard of the same evaluation lies there."""
    try:
        run = read_report(folder / REPORT_FILE).run
    except RobustmixError:
        return False
    return run.status == "success" and run.fingerprint == own.content.run.fingerprint
