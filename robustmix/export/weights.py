"""Weights in the forms that timm and Hugging Face read: safetensors, or a folder of timm's."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from safetensors.torch import save
from torch import Tensor, nn

from robustmix.data.preparation import TestTransform
from robustmix.errors import IncompleteError, RobustmixError, UsageError
from robustmix.evaluation.model_images import recorded_transform
from robustmix.export.exported import Written, normalisation_of
from robustmix.export.networks import TOLERANCE, TimmNetwork, difference_of, timm_network
from robustmix.files import atomic_file, make_folder
from robustmix.models.load import load_model
from robustmix.models.names import OWN
from robustmix.models.recorded import CONFIG, WEIGHTS
from robustmix.models.robust_model import RobustModel


def safetensors(robust: RobustModel, path: Path) -> Written:
    """Write the weights with a header that says of what network, and read them back.

    Raises:
        UsageError: the network is the caller's own, which no name builds.
        IncompleteError: what is read back gives other logits.
    """
    arch = named(robust)
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
    try:
        read = _read_back(robust, path)
    except RobustmixError:  # what is not the model is not kept
        path.unlink()
        raise
    return Written(
        settings={key: value for key, value in header.items() if key != "format"},
        difference=read,
        compared="logits of the file read back, on random images",
    )


def timm(robust: RobustModel, path: Path) -> Written:
    """Write the folder that timm's ``save_for_hf`` writes: ``config.json`` and the weights.

    timm takes it as ``local-dir:PATH``, and from the Hub once it is there.

    Raises:
        UsageError: timm has no such network.
        IncompleteError: what is read back gives other logits.
    """
    name = named(robust)
    found = timm_network(robust)
    if found is None:
        raise UsageError(
            f"timm builds no network called {name.removeprefix('timm:')} with the tensors of this "
            "one",
            "export --to hf or safetensors, which robustmix reads",
            code="E-EXPORT",
        )
    return write_folder(robust, path, found)


def write_folder(robust: RobustModel, path: Path, found: TimmNetwork | None) -> Written:
    """Write weights and ``config.json``, and read them back.

    Args:
        robust: the model.
        path: the folder, which is made.
        found: the network of timm's that it is; None for one that only robustmix builds.

    Raises:
        IncompleteError: what is read back gives other logits.
    """
    # With a colon it is no name of timm's, which then says so and builds nothing else.
    own = named(robust) if ":" in named(robust) else f"robustmix:{named(robust)}"
    prepared = timm_preparation(robust)
    config: dict[str, JsonValue] = {
        "architecture": own if found is None else found.name,
        "num_classes": robust.num_classes,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": list(robust.input_size),
            **normalisation_of(robust),
            **(prepared or {}),
            "num_classes": robust.num_classes,
        },
    }
    if found is not None:
        net: Any = found.net
        published = config["pretrained_cfg"]
        assert isinstance(published, dict)
        for key in ("first_conv", "classifier", "fixed_input_size"):
            if net.default_cfg.get(key) is not None:
                published[key] = net.default_cfg[key]
        config |= {"num_features": int(net.num_features)}
        config |= {"model_args": dict(found.args)} if found.args else {}
    if robust.info.class_names:
        config["label_names"] = list(robust.info.class_names)
    made = not path.exists()
    make_folder(path)
    with atomic_file(path / WEIGHTS[0]) as file:
        file.write(save(_state(robust.net), {"format": "pt"}))
    with atomic_file(path / CONFIG) as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())
    try:
        read = _read_back(robust, path)
    except RobustmixError:  # what is not the model is not kept
        for name in (WEIGHTS[0], CONFIG):
            (path / name).unlink(missing_ok=True)
        if made:
            path.rmdir()
        raise
    known = "timm's network and of " if found is not None else ""
    lost = f"images are prepared as '{transform_words(robust)}', which config.json cannot say"
    return Written(
        settings={
            "model": f"local-dir:{path}" if found is not None else str(path),
            **normalisation_of(robust),
        },
        difference=max(found.difference if found is not None else 0.0, read),
        compared=f"logits of {known}the folder read back, on random images",
        notes=() if prepared is not None else (lost,),
    )


def transform_words(robust: RobustModel) -> str:
    """Say how the model's test images are prepared; ``none`` where they stay as they are."""
    recorded = recorded_transform(robust)
    return "none" if recorded is None else recorded.text()


def timm_preparation(robust: RobustModel) -> dict[str, JsonValue] | None:
    """Say how test images are prepared as timm's configurations do; None where they cannot."""
    side, transform = robust.input_size[1], recorded_transform(robust) or TestTransform()
    resize = side if transform.resize is None else transform.resize
    if transform.crop not in (None, side) or (transform.crop is None and resize != side):
        return None
    # Rounded as far as timm comes to the same size from it.
    shares = (round(side / resize, digits) for digits in range(3, 16))
    share = next((one for one in shares if math.floor(side / one) == resize), None)
    if share is None or not share <= 1:
        return None
    return {
        "crop_pct": share,
        "crop_mode": transform.crop_mode,
        "interpolation": transform.interpolation,
    }


def named(robust: RobustModel) -> str:
    """Give the name by which the network is built anew.

    Raises:
        UsageError: it has none, or more belongs to the model than its weights.
    """
    if robust.info.format in ("module", "transformers") or robust.info.arch.startswith(OWN):
        whose = "of transformers" if robust.info.format == "transformers" else "of your own"
        raise UsageError(
            f"{robust.info.arch} is a module {whose}, which nobody can build from its name",
            "export --to onnx or torchscript, which hold the network too",
            code="E-EXPORT",
        )
    if robust.info.arch.startswith("transformers:"):
        raise UsageError(
            f"{robust.info.arch} is a network of transformers, which timm does not have",
            "write it with its own save_pretrained, or export --to onnx or torchscript",
            code="E-EXPORT",
        )
    beyond = {
        "class map": robust.class_map is not None,
        "temperature": robust.temperature is not None,
        "resizing": robust.resize is not None,
    }
    if any(beyond.values()):
        what = next(name for name, there in beyond.items() if there)
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
    worst = difference_of(robust, other)
    if not worst <= TOLERANCE:
        raise IncompleteError(
            f"what was written gives other logits than the model: they differ by {worst:.3g} of "
            "the largest",
            "do not use it; export to another format",
            code="E-EXPORT",
        )
    return worst
