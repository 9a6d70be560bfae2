"""Weights in the forms that timm and Hugging Face read: safetensors, or a folder of timm's."""

import json
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors.torch import save
from torch import Tensor, nn

from robustmix.errors import IncompleteError, UsageError
from robustmix.export.exported import Written, normalisation_of
from robustmix.files import atomic_file, make_folder
from robustmix.models.load import load_model
from robustmix.models.names import OWN
from robustmix.models.robust_model import RobustModel

TOLERANCE = 1e-6
"""Most that logits may differ, over the largest of them: the same weights in the same network."""


def safetensors(robust: RobustModel, path: Path) -> Written:
    """Write the weights with a header that says of what network, and read them back.

    Raises:
        UsageError: the network is the caller's own, which no name builds.
        IncompleteError: what is read back gives other logits.
    """
    arch = _arch(robust)
    info = robust.info
    header = {
        "format": "pt",
        "arch": arch,
        "num_classes": str(robust.num_classes),
        "input_size": json.dumps(list(robust.input_size)),
        **{key: json.dumps(value) for key, value in normalisation_of(robust).items()},
        **({"dataset": info.dataset} if info.dataset else {}),
    }
    with atomic_file(path) as file:
        file.write(save(_state(robust.net), header))
    return Written(
        settings={key: value for key, value in header.items() if key != "format"},
        difference=_read_back(robust, path),
        compared="logits of the file read back, on random images",
    )


def timm(robust: RobustModel, path: Path) -> Written:
    """Write the folder that timm's ``save_for_hf`` writes: ``config.json`` and the weights.

    timm takes it as ``local-dir:PATH``, and from the Hub once it is there.

    Raises:
        UsageError: timm has no such network.
        IncompleteError: timm's network gives other logits with these weights.
    """
    import timm as library

    name = _arch(robust).removeprefix("timm:")
    state = _state(robust.net)
    try:
        net = library.create_model(name, num_classes=robust.num_classes)
        net.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError):
        raise UsageError(
            f"timm builds no network called {name} with the tensors of this one",
            "export --to safetensors, which robustmix reads",
            code="E-EXPORT",
        ) from None
    worst = _compared(robust, net.eval())
    config: dict[str, JsonValue] = {
        "architecture": name,
        "num_classes": robust.num_classes,
        "num_features": int(net.num_features),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": list(robust.input_size),
            **normalisation_of(robust),
            "num_classes": robust.num_classes,
            "first_conv": net.default_cfg.get("first_conv"),
            "classifier": net.default_cfg.get("classifier"),
        },
    }
    if robust.info.class_names:
        config["label_names"] = list(robust.info.class_names)
    make_folder(path)
    with atomic_file(path / "model.safetensors") as file:
        file.write(save(state, {"format": "pt"}))
    with atomic_file(path / "config.json") as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())
    return Written(
        settings={"model": f"local-dir:{path}", **normalisation_of(robust)},
        difference=max(worst, _read_back(robust, path)),
        compared="logits of timm's network and of the folder read back, on random images",
    )


def _arch(robust: RobustModel) -> str:
    """Give the name by which the network is built anew.

    Raises:
        UsageError: it has none, or more belongs to the model than its weights.
    """
    if robust.info.format == "module" or robust.info.arch.startswith(OWN):
        raise UsageError(
            f"{robust.info.arch} is a module of your own, which nobody can build from its name",
            "export --to onnx or torchscript, which hold the network too",
            code="E-EXPORT",
        )
    if robust.class_map is not None or robust.temperature is not None:
        what = "class map" if robust.class_map is not None else "temperature"
        raise UsageError(
            f"weights alone do not hold the {what} of this model",
            "export --to onnx or torchscript, which do",
            code="E-EXPORT",
        )
    stem = robust.info.arch_options.get("stem")
    return robust.info.arch + (f"-{stem}" if stem and ":" not in robust.info.arch else "")


def _state(net: nn.Module) -> dict[str, Tensor]:
    """Give tensors that share no memory, as the format wants them."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in net.state_dict().items()}


def _read_back(robust: RobustModel, path: Path) -> float:
    read = load_model(path, num_classes=robust.num_classes)
    return _compared(robust, read.net)


def _compared(robust: RobustModel, other: nn.Module) -> float:
    """Give the largest difference of logits over the largest of them.

    Raises:
        IncompleteError: it is too large.
    """
    images = torch.randn(3, *robust.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = robust.net(images), other(images)
    worst = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-30))
    if not worst <= TOLERANCE:
        raise IncompleteError(
            f"what was written gives other logits than the model: they differ by {worst:.3g} of "
            "the largest",
            "do not use it; export to another format",
            code="E-EXPORT",
        )
    return worst
