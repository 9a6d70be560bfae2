"""A calibrated checkpoint: the same weights, and a temperature that divides their logits."""

import json
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import robustmix
from robustmix.data.images import ImageSet
from robustmix.data.manifests import DATASETS
from robustmix.environment import choose_device
from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.evaluation.engine import guarded
from robustmix.evaluation.held_out import OpenedSplit, open_held_out, score_split
from robustmix.evaluation.params import encode
from robustmix.files import write_text
from robustmix.metrics.binned import Row, reliability_table
from robustmix.metrics.scores import score_logits
from robustmix.metrics.temperature import (
    Temperature,
    fit_temperature,
    two_fold_temperature,
)
from robustmix.models.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from robustmix.models.load import load_model
from robustmix.models.names import ARCHS, split_stem
from robustmix.models.robust_model import RobustModel, padded
from robustmix.tables import plugins
from robustmix.types import Model

SUFFIXES = (".pth", ".pt")
_CHECKED = 64
"""Images that the written checkpoint is compared on."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a calibration leaves."""

    path: Path
    """The calibrated checkpoint."""

    report_path: Path
    """JSON: the temperature, how it was fitted, NLL and ECE before and after."""

    T: float
    report: dict[str, Any]
    bins_before: list[Row]
    bins_after: list[Row]
    """Reliability tables of 15 bins on the held-out images, each half by the other's T."""


def default_out(source: str) -> Path:
    """Say where the calibrated checkpoint of a model goes: beside its file.

    Example:
        >>> default_out("runs/a/last.pth").as_posix(), default_out("timm:vit@x").as_posix()
        ('runs/a/last-calibrated.pth', 'timm-vit-x-calibrated.pth')
    """
    if Path(source).suffix and ":" not in source:
        return Path(source).with_name(f"{Path(source).stem}-calibrated.pth")
    return Path(re.sub(r"[^A-Za-z0-9._-]+", "-", source) + "-calibrated.pth")


def calibrate_model(
    robust: RobustModel,
    out: Path,
    *,
    source: str | Path | None = None,
    calib_data: str | ImageSet | None = None,
    calib_split: str = "auto",
    data_dir: Path | None = None,
    allow_partial: bool = False,
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
) -> Calibrated:
    """Fit a temperature to held-out images and write a checkpoint that carries it.

    T is fitted to all of the images. NLL and ECE are those of two folds, each scored with the
    temperature of the other: no image judges a temperature it helped to fit.

    Args:
        robust: the model; not calibrated yet.
        out: the checkpoint to write, ``.pth`` or ``.pt``.
        source: the model's own checkpoint, whose recipe and metrics are kept; for other models a
            checkpoint is made from what is known of them.
        calib_data: see ``open_held_out``.
        calib_split: likewise; ``two-fold`` has no meaning here.
        data_dir: where data sets lie.
        allow_partial: take a data set whose images are not all here.
        device: where the model is run.
        seed: of the folds and the intervals.
        force: replace files that are there.

    Raises:
        UsageError: the model is calibrated already, a file is in the way, or there are no held-out
            images to fit to.
        IntakeError: the images do not fit or, as a whole or by halves, do not determine a
            temperature; or the model cannot be written as a checkpoint.
        IncompleteError: a logit is not finite, a file cannot be written, or the written checkpoint
            does not give the scaled logits.
    """
    report_path = out.with_suffix(".calibration.json")
    _check_target(robust, out, report_path, force)
    found = open_held_out(
        robust,
        calib_data=calib_data,
        calib_split=calib_split,
        data_dir=data_dir,
        allow_partial=allow_partial,
    )
    if found is None:
        raise UsageError(
            f"there are no held-out images to calibrate {robust.info.source} with",
            "name some with --calib-data, or train with val_split; the test images are not to be "
            "fitted to",
            code="E-CALIB-SPLIT",
        )
    record, images = found
    where = choose_device(device)
    robust = robust.to(where)
    with guarded(where):
        split = score_split(padded(robust), images, where)
        fit = fit_temperature(split.logits, split.labels)
        _refuse_undetermined(fit.reason)
        folds = two_fold_temperature(split.logits, split.labels, split.sample_ids, seed=seed)
        _refuse_undetermined(folds.reason)
        before = score_logits(split.logits, split.labels)
        report = {
            "kind": "robustmix.calibration",
            "version": robustmix.__version__,
            "model": robust.info.source,
            "sha256": robust.info.sha256,
            "T": fit.T,
            "converged": fit.converged,
            "bound_hit": fit.bound_hit,
            **{key: value for key, value in encode(record).items() if key != "split"},
            "seed": seed,
            "scored_by": "two folds of the held-out images",
            **{name: metric.model_dump(mode="json") for name, metric in folds.metrics.items()},
        }
        checkpoint = _checkpoint(robust, source, images, _record(fit, found))
        _check_written(checkpoint, out.name, padded(robust), images, where)
    save_checkpoint(out, checkpoint)
    write_text(report_path, json.dumps(report, indent=2, sort_keys=True) + "\n")
    return Calibrated(
        path=out,
        report_path=report_path,
        T=fit.T,
        report=report,
        bins_before=reliability_table(before.confidence, before.correct, 15),
        bins_after=folds.bins_15,
    )


def _refuse_undetermined(reason: str | None) -> None:
    if reason is not None:
        raise IntakeError(
            f"the held-out images do not determine a temperature: {reason}",
            "name more, or harder ones, with --calib-data",
            code="E-TEMPERATURE",
        )


def _check_target(robust: RobustModel, out: Path, report_path: Path, force: bool) -> None:
    if robust.temperature is not None or robust.info.calibration is not None:
        raise UsageError(
            f"{robust.info.source} is calibrated already",
            "calibrate the checkpoint it was made from",
            code="E-CALIBRATED",
        )
    if robust.info.format == "transformers":
        raise UsageError(
            "a checkpoint cannot hold a network of transformers",
            "read the temperature that the suite calibration fits",
            code="E-MODEL",
        )
    if robust.class_map is not None:
        raise UsageError(
            "a checkpoint cannot hold a class map", "calibrate without --class-map", code="E-MODEL"
        )
    if out.suffix not in SUFFIXES:
        raise UsageError(f"expected a .pth or .pt file for --out, got {out}")
    for path in (out, report_path):
        if path.exists() and not force:
            raise UsageError(
                f"{path} is there already",
                "choose another --out, or add --force to replace it",
                code="E-EXISTS",
            )


def _record(fit: Temperature, split: OpenedSplit) -> dict[str, Any]:
    record = split.record
    return {
        "T": fit.T,
        "source": record.source,
        "n": record.n,
        "ids_sha256": record.ids_sha256,
        "content_sha256": record.content_sha256,
        "nll_before": fit.nll_before,
        "nll_after": fit.nll_after,
        "sample_ids": list(split.images.sample_ids),
    }


def _checkpoint(
    robust: RobustModel, source: str | Path | None, images: ImageSet, record: dict[str, Any]
) -> Checkpoint:
    info = robust.info
    if info.format == "robustmix" and source is not None and Path(source).is_file():
        # Without what resuming needs: training on would leave the temperature behind.
        return replace(read_checkpoint(Path(source)), calibration=record, resume=None)
    options = dict(info.arch_options)
    if robust.resize is not None:
        if robust.resize[0] != robust.resize[1]:
            raise IntakeError("a checkpoint cannot hold a resize that is not square")
        options["resize"] = robust.resize[0]
    mean, std = robust.mean.flatten().tolist(), robust.std.flatten().tolist()
    dataset = info.dataset or (images.name if images.name in DATASETS else "unknown")
    return Checkpoint(
        arch=info.arch,
        arch_options=options,
        method=info.method or "imported",
        num_classes=robust.num_classes,
        input_size=robust.input_size,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        class_names=info.class_names or images.class_names,
        dataset=dataset,
        recipe=dict(info.recipe or {}),
        run_id=info.run_id or "",
        epoch=info.epoch or 0,
        metrics=dict(info.metrics or {}),
        model={name: tensor.cpu() for name, tensor in robust.net.state_dict().items()},
        weights="ema" if info.weights == "ema" else "raw",
        head=info.head,
        calibration=record,
        plugins=tuple(plugins([(ARCHS, split_stem(info.arch)[0]), (DATASETS, dataset)])),
    )


def _check_written(
    checkpoint: Checkpoint, name: str, model: Model, images: ImageSet, device: torch.device
) -> None:
    """Write the checkpoint elsewhere, load it, and compare its logits with the scaled ones."""
    assert checkpoint.calibration is not None
    pixels = images.pixels.take(torch.arange(min(_CHECKED, len(images)))).to(device).float() / 255
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder:
        save_checkpoint(Path(folder) / name, checkpoint)
        again = load_model(Path(folder) / name, device=device)
    with torch.no_grad():
        expected = model(pixels) / checkpoint.calibration["T"]
        found = padded(again)(pixels)
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
        raise IncompleteError(
            "the calibrated checkpoint does not give the scaled logits of the model",
            "this is a fault of robustmix; nothing was written",
            code="E-CALIBRATION",
        )
