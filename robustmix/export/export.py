"""Write a model in another program's form, and what that program must be told beside it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from robustmix.errors import UsageError, unknown_name
from robustmix.export.card import check_license
from robustmix.export.exported import Exported, Normalisation
from robustmix.export.hub import check_login, open_hub
from robustmix.export.registry import EXPORTS
from robustmix.files import atomic_file, expanded
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

if TYPE_CHECKING:
    from robustmix.report.report import Report


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


def check_options(
    to: str, *, normalisation: str | None = None, **asked: object
) -> dict[str, object]:
    """Give what the format is told beside the path; nothing is loaded for it.

    Raises:
        UsageError: an option is invalid, or does nothing for this format.
        IncompleteError: something is to be pushed, and nobody is logged in.
    """
    row = EXPORTS.row(to)
    given = {name: value for name, value in asked.items() if value not in (None, False)}
    for name in given:
        if name not in row.options:
            those = [one for one, other in EXPORTS.rows().items() if name in other.options]
            raise UsageError(
                f"--{name} is of --to {', '.join(those)}, not of {to}",
                "leave it out",
                code="E-UNUSED-OPTION",
            )
    if "private" in given and "push" not in given:
        raise UsageError(
            "--private is of what is pushed", "add --push OWNER/NAME", code="E-UNUSED-OPTION"
        )
    if "push" in given:
        check_login(str(given["push"]))
    if "license" in given:
        check_license(str(given["license"]))
    if normalisation is None:
        return given
    if normalisation not in get_args(Normalisation):
        raise unknown_name("normalisation", normalisation, get_args(Normalisation))
    if row.normalises:
        return {**given, "normalisation": normalisation}
    if normalisation == "inside":
        programs = [name for name, one in EXPORTS.rows().items() if one.normalises]
        raise UsageError(
            f"{to} holds weights, and no normalisation can be inside them: it stands beside",
            f"leave --normalisation out, or export a program ({', '.join(programs)})",
            code="E-EXPORT",
        )
    return given  # beside is where it stands


def export_model(
    model: str | Path | RobustModel,
    to: str,
    out: str | Path | None = None,
    *,
    normalisation: str | None = None,
    force: bool = False,
    report: "str | Path | Report | None" = None,
    license: str | None = None,
    push: str | None = None,
    private: bool = False,
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
            take normalised ones); inside by default. Of weights it is always ``beside``.
        force: replace what is there.
        report: of ``hf``, a report on these weights, whose numbers the model card tells.
        license: of ``hf``, the licence that the card names, by the hub's identifier.
        push: of ``hf``, ``OWNER/NAME``: where on the hub the folder is put.
        private: of ``push``, that the repository must be a private one.

    Raises:
        UsageError: there is no such format; something is at ``out``; an option is invalid or does
            nothing here; or the format has no place for this network.
        IntakeError: the model or the report cannot be loaded.
        IncompatibleError: the report is on other weights.
        IncompleteError: the file cannot be written, gives other numbers than the model, or cannot
            be pushed.
    """
    write = EXPORTS.load(to, code="E-EXPORT")
    more = check_options(
        to, normalisation=normalisation, report=report, license=license, push=push, private=private
    )
    # Who may not push learns it before anything is loaded.
    hub = None if push is None else open_hub(push, private=bool(more.pop("private", False)))
    robust = model if isinstance(model, RobustModel) else load_model(model)
    source = robust.info.source if isinstance(model, RobustModel) else str(model)
    path = expanded(default_out(source, to) if out is None else out)
    beside = path.with_name(path.name + ".json")
    for taken in (path, beside):
        if taken.exists() and not force:
            raise UsageError(
                f"{taken} exists", "choose another --out, or --force to replace it", code="E-EXISTS"
            )
    written = write(robust.cpu(), path, **more)
    where = more.get("normalisation", "inside" if EXPORTS.row(to).normalises else "beside")
    info = robust.info
    done = Exported(
        path=path,
        format=to,
        written=written,
        normalisation=str(where),
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
    _tell(done, beside)
    if hub is not None:
        done = replace(done, pushed=hub.push(path))
        _tell(done, beside)
    return done


def _tell(done: Exported, beside: Path) -> None:
    with atomic_file(beside) as file:
        file.write((json.dumps(done.record(), indent=2) + "\n").encode())
