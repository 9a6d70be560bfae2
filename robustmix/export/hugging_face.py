"""A folder for the Hugging Face hub: weights, ``config.json`` and a model card."""

from pathlib import Path

from robustmix.errors import IncompatibleError
from robustmix.export.card import Card
from robustmix.export.exported import Written
from robustmix.export.networks import timm_network
from robustmix.export.weights import named, transform_words, write_folder
from robustmix.files import write_text
from robustmix.models.checks import state_hash
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.text import plain

CARD = "README.md"


def hf(
    robust: RobustModel,
    path: Path,
    *,
    report: str | Path | Report | None = None,
    license: str | None = None,
    push: str | None = None,
) -> Written:
    """Write weights, ``config.json`` and ``README.md``, and read the weights back.

    ``config.json`` has timm's form. A network that timm does not have is named there as
    robustmix's own, which the card says; robustmix reads both.

    Args:
        robust: the model.
        path: the folder.
        report: on these weights, or None: the card tells no numbers then.
        license: the hub's identifier of a licence; None leaves it open.
        push: ``OWNER/NAME``, by which the card says how to load it.

    Raises:
        UsageError: the network is the caller's own, or the licence is no identifier.
        IntakeError: the report cannot be read.
        IncompatibleError: the report is on other weights.
        IncompleteError: what is read back gives other logits.
    """
    named(robust)  # before anything is compared
    loaded = report if report is None or isinstance(report, Report) else _read(report)
    if loaded is not None:
        _check_same(robust, loaded)
    found = timm_network(robust)
    written = write_folder(robust, path, found)
    card = Card(
        robust=robust,
        name=(push or path.name).rpartition("/")[2] or "model",
        place=push,
        timm_name=None if found is None else found.name,
        transform=transform_words(robust),
        report=loaded,
        license=license,
        notes=(*robust.info.notes, *written.notes),
    )
    write_text(path / CARD, card.text())
    return written


def _read(path: str | Path) -> Report:
    return Report.load(path, samples=False)


def _check_same(robust: RobustModel, report: Report) -> None:
    """Refuse a report that is on other weights.

    Raises:
        IncompatibleError: it is.
    """
    own, stated = state_hash(robust), report.content.model.state_sha256
    if stated != own:
        raise IncompatibleError(
            f"the report {plain(report.content.run.name, 60)} is on other weights "
            f"({plain(stated, 12)}) than {robust.info.source} ({own[:12]})",
            "evaluate this checkpoint, or give its own report",
            code="E-OTHER-MODEL",
        )
