"""The official backbones: outputs in both modes and the running statistics after a step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet
from tests.reference.tolerances import EVAL_MAP, TRAIN_MAP, close, largest, running_limits
from tests.reference.vectors import Case, cases, reference_params

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


def check_maps(net: ResNet | WideResNet, case: Case, mode: str, share: float) -> None:
    with torch.no_grad():
        maps = net.train(mode == "train").forward_features(case.tensor("img"))
    for i, index in enumerate(case.cfg["out_indices"]):
        want = case.tensor(f"{mode}_out{i}")
        close(f"{case.name} {mode} map {i}", maps[index], want, share * largest(want))


@pytest.mark.parametrize("path", reference_params("backbones*.npz"))
def test_maps_and_running_statistics_are_the_official_ones(path: Path) -> None:
    for case in cases(path):
        net = build(case.cfg)
        state = case.under("state.")
        assert state.keys() == net.state_dict().keys(), case.name
        net.load_state_dict(state)
        check_maps(net, case, "eval", EVAL_MAP)
        check_maps(net, case, "train", TRAIN_MAP)
        after, statistics = net.state_dict(), case.under("after_train.")
        assert statistics, case.name
        for name, limit in running_limits(statistics).items():
            close(f"{case.name} {name}", after[name], statistics[name], limit)
