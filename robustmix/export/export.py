"""Write a model in another program's form, and what that program must be told beside it."""

import json
import re
from pathlib import Path
from typing import get_args

from robustmix.errors import UsageError, unknown_name
from robustmix.export.exported import Exported, Normalisation
from robustmix.export.registry import EXPORTS
from robustmix.files import atomic_file
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel


def default_out(source: str, to: str) -> Path:
    """Say where an export goes: beside the model's file, or into this folder for a name.

    Example:
        >>> default_out("runs/a/last.pth", "mmdet").as_posix()
        'runs/a/last-mmdet.pth'
        >>> default_out("timm:resnet50@a1", "detectron2").as_posix()
        'timm-resnet50-a1-detectron2.pkl'
    """
    end = f"-{to}{EXPORTS.row(to).suffix}"
    if Path(source).suffix and ":" not in source:
        return Path(source).with_name(Path(source).stem + end)
    return Path(re.sub(r"[^A-Za-z0-9._-]+", "-", source) + end)


def _more(to: str, normalisation: str | None) -> dict[str, str]:
    """Give what the format is told beside the path.

    Raises:
        UsageError: the option is invalid, or does nothing for this format.
    """
    if normalisation is None:
        return {}
    if not EXPORTS.row(to).normalises:
        programs = [name for name, row in EXPORTS.rows().items() if row.normalises]
        raise UsageError(
            f"--normalisation is of programs ({', '.join(programs)}), {to} is none",
            "leave it out: OUT.json has mean and std",
            code="E-UNUSED-OPTION",
        )
    if normalisation not in get_args(Normalisation):
        raise unknown_name("normalisation", normalisation, get_args(Normalisation))
    return {"normalisation": normalisation}


def export_model(
    model: str | Path | RobustModel,
    to: str,
    out: str | Path | None = None,
    *,
    normalisation: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a model in the form that another program reads, and check what was written.

    Beside the file lies another, ``OUT.json``: what was exported, what the other program must be
    told (normalisation, order of the channels, depth) by its own names, and how far what it gives
    is from what the model gives.

    Args:
        model: what ``load_model`` takes, or what it gave.
        to: a format of ``robustmix list exports``.
        out: where to; by default beside the model's file.
        normalisation: of programs, ``inside`` (they take pixels in [0, 1]) or ``beside`` (they
            take normalised ones); inside by default.
        force: replace what is there.

    Raises:
        UsageError: there is no such format; something is at ``out``; or the format has no place
            for this network.
        IntakeError: the model cannot be loaded.
        IncompleteError: the file cannot be written, or gives other numbers than the model.
    """
    write = EXPORTS.load(to, code="E-EXPORT")
    more = _more(to, normalisation)
    robust = model if isinstance(model, RobustModel) else load_model(model)
    source = robust.info.source if isinstance(model, RobustModel) else str(model)
    path = Path(out) if out is not None else default_out(source, to)
    beside = path.with_name(path.name + ".json")
    for taken in (path, beside):
        if taken.exists() and not force:
            raise UsageError(
                f"{taken} exists", "choose another --out, or --force to replace it", code="E-EXISTS"
            )
    written = write(robust.cpu(), path, **more)
    info = robust.info
    done = Exported(
        path=path,
        format=to,
        written=written,
        model={
            "source": info.source,
            "sha256": info.sha256,
            "arch": info.arch,
            "arch_options": dict(info.arch_options),
            "weights": info.weights,
            "dataset": info.dataset,
            "method": info.method,
        },
    )
    with atomic_file(beside) as file:
        file.write((json.dumps(done.record(), indent=2) + "\n").encode())
    return done
