"""Load the network of a checkpoint of ours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustmix.models.checkpoint import Checkpoint
from robustmix.models.names import ARCHS, split_stem
from robustmix.models.recorded import OPTIONS, Recorded, said_by
from robustmix.models.registry import blueprint, build_model
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.strict import check_state, load_strictly
from robustmix.models.wanted import Wanted, check_recorded, contradictions
from robustmix.models.wrap import parameter_count, wrapped
from robustmix.tables import require_plugins


def from_checkpoint(checkpoint: Checkpoint, path: Path, wanted: Wanted) -> RobustModel:
    """Build the network of a checkpoint, load its weights strictly, and wrap it.

    Args:
        checkpoint: as it was read.
        path: of its file, which errors name.
        wanted: what the caller says of it.

    Raises:
        IntakeError: the caller contradicts what it records, or its weights do not fit.
    """
    if wanted.weights == "raw" and checkpoint.raw is not None:
        checkpoint = _unaveraged(checkpoint, checkpoint.raw)
    check_recorded(path.name, "--weights", wanted.weights, checkpoint.weights)
    check_recorded(path.name, "--head", wanted.head, checkpoint.head)
    if wanted.arch is not None:
        check_recorded(path.name, "--arch", split_stem(wanted.arch)[0], checkpoint.arch)
    options = checkpoint.arch_options
    resize = options.get("resize")
    norm = checkpoint.mean, checkpoint.std
    recorded = Recorded(
        input_size=checkpoint.input_size,
        norm=norm,
        resize=None if resize is None else int(resize),
    )
    notes = [
        *require_plugins(checkpoint.plugins, [ARCHS]),
        *contradictions(wanted, recorded, path.name),
    ]
    net = _built(checkpoint, path)
    info = ModelInfo(
        source=path.name,
        format="robustmix",
        arch=checkpoint.arch,
        arch_options=options,
        head=checkpoint.head,
        weights=checkpoint.weights,
        dataset=checkpoint.dataset,
        method=checkpoint.method,
        run_id=checkpoint.run_id,
        recipe=checkpoint.recipe,
        class_names=checkpoint.class_names or None,
        params=parameter_count(net),
        epoch=checkpoint.epoch,
        metrics=checkpoint.metrics,
        calibration=checkpoint.calibration,
        plugins=checkpoint.plugins,
        notes=tuple(notes),
    )
    if wanted.resize is None:
        wanted = replace(wanted, resize=recorded.resize)
    return wrapped(net, info, wanted, checkpoint.input_size, norm, checkpoint.num_classes)


def _unaveraged(checkpoint: Checkpoint, raw: dict[str, Tensor]) -> Checkpoint:
    """Return the checkpoint of the weights that were trained, without what is the average's."""
    known = checkpoint.metrics
    own = {name: known[f"raw_{name}"] for name in ("loss", "top1") if f"raw_{name}" in known}
    metrics = {k: v for k, v in known.items() if k not in ("loss", "top1", "summary")} | own
    return replace(checkpoint, model=raw, weights="raw", metrics=metrics, calibration=None)


def _built(checkpoint: Checkpoint, path: Path) -> nn.Module:
    """Return the network of a checkpoint, once it is known that its weights fit."""
    stem = checkpoint.arch_options.get("stem")
    chosen = {
        key: checkpoint.arch_options[key] for key in OPTIONS if key in checkpoint.arch_options
    }
    build: dict[str, Any] = {
        "num_classes": checkpoint.num_classes,
        "input_size": checkpoint.input_size,
        "stem": str(stem) if stem is not None else None,
        "options": chosen,
    }
    with said_by(path.name):
        check_state(blueprint(checkpoint.arch, **build), checkpoint.model, path.name)
        net = build_model(checkpoint.arch, **build)  # without drop-path, which only training has
    load_strictly(net, checkpoint.model, path.name)
    return net
