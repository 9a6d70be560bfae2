"""The official backbones: outputs in both modes and the running statistics after a step."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet
from tests.reference.vectors import reference_params

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def build(cfg: dict[str, Any]) -> ResNet | WideResNet:
    if cfg["type"].startswith("Wide"):
        return WideResNet(
            0,
            depth=cfg["depth"],
            widen=cfg["widen_factor"],
            first_stride=cfg.get("first_stride", 1),
        )
    grouped = cfg["type"].startswith("ResNeXt")
    return ResNet(
        0,
        block="basic" if cfg["depth"] < 50 else "bottleneck",
        depths=DEPTHS[cfg["depth"]][: cfg.get("num_stages", 4)],
        stem="cifar" if "CIFAR" in cfg["type"] else "imagenet",
        width=cfg.get("base_channels", 64),
        stem_width=cfg.get("stem_channels", 64),
        groups=cfg.get("groups", 32 if grouped else 1),
        width_per_group=cfg.get("width_per_group", 4 if grouped else None),
    )


def named(case: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in case.items()
        if name.startswith(prefix)
    }


def check_maps(net: ResNet | WideResNet, case: dict[str, npt.NDArray[Any]], mode: str) -> None:
    indices = ast.literal_eval(str(case["cfg"]))["out_indices"]
    with torch.no_grad():
        maps = net.train(mode == "train").forward_features(torch.from_numpy(case["img"]))
    for i, index in enumerate(indices):
        expected = torch.from_numpy(case[f"{mode}_out{i}"])
        torch.testing.assert_close(maps[index], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", reference_params("backbones*.npz"))
def test_maps_and_running_statistics_are_the_official_ones(path: Path) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    names = sorted({name.split("/")[0] for name in arrays})
    assert names
    for name in names:
        case = {
            k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")
        }
        net = build(ast.literal_eval(str(case["cfg"])))
        state = named(case, "state.")
        assert state.keys() == net.state_dict().keys(), name
        net.load_state_dict(state)
        check_maps(net, case, "eval")
        check_maps(net, case, "train")
        after = net.state_dict()
        statistics = named(case, "after_train.")
        assert statistics, name
        for key, value in statistics.items():
            torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")
