"""Images enlarged by the loader and by the model are different measurements."""

import torch
from torch import nn

from robustmix.data.datasets import load_dataset
from robustmix.evaluation.evaluate import evaluate
from robustmix.models.robust_model import RobustModel


def linear(side: int, resize: int | None) -> RobustModel:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return RobustModel(
        net,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        num_classes=10,
        input_size=(3, side, side),
        resize=resize,
    )


def test_trap_28_where_images_are_enlarged_is_recorded() -> None:
    in_loader = evaluate(linear(64, None), load_dataset("digits", "test", img_size=64), ["clean"])
    in_model = evaluate(linear(32, 64), load_dataset("digits", "test"), ["clean"])
    assert in_loader.content.dataset.transform != in_model.content.dataset.transform
    assert in_loader.content.model.resize is None
    assert in_model.content.model.resize == [64, 64]
    assert in_loader.content.run.fingerprint != in_model.content.run.fingerprint
    assert in_loader.samples is not None
    assert in_model.samples is not None
    # The two do differ: rounding to uint8 in the loader, none in the model.
    assert (in_loader.samples.clean_logits() != in_model.samples.clean_logits()).any()
