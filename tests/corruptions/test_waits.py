"""Corruptions on a GPU: what waits for it, and that its way of computing gives the CPU's bits."""

import pytest
import torch

from benchmarks.pretended_gpu import GPU, pretended_gpu
from robustmix.corruptions import NAMES, corrupt

WAITS = {"contrast": 2, "spatter": 3}
"""Contrast adds its mean up on the CPU, in raster order; spatter looks, every 16
pixels, whether an edge still grows. All else waits for nothing."""


def pictures(side: int) -> torch.Tensor:
    """Noise, a ramp and a flat image, uint8 (3, 3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (3, side, side), generator=generator, dtype=torch.uint8)
    ramp = (torch.arange(side) * 255 // side).to(torch.uint8).expand(3, side, side)
    return torch.stack([noise, ramp, torch.full_like(noise, 201)])


@pytest.mark.parametrize("name", NAMES)
def test_a_second_batch_waits_for_nothing_and_has_the_bits_of_the_cpu(name: str) -> None:
    """The strongest of 40 pixels and constants of 224, and the middle one of 32."""
    images = {"imagenet": pictures(40), "cifar": pictures(32)}
    severities = {"imagenet": (1, 5), "cifar": (3,)}
    cases = [(profile, s) for profile, several in severities.items() for s in several]
    want = {case: corrupt(images[case[0]], name, case[1], profile=case[0]) for case in cases}
    waits, got = {}, {}
    with pretended_gpu() as count:
        there = {profile: some.to(GPU) for profile, some in images.items()}
        for profile, severity in cases:
            corrupt(there[profile], name, severity, profile=profile)
            count.clear()
            made = corrupt(there[profile], name, severity, profile=profile)
            waits[profile, severity] = (sum(count.waits.values()), sum(count.uploads.values()))
            got[profile, severity] = made.cpu()
    for case in cases:
        assert torch.equal(got[case], want[case]), case
        assert waits[case][0] <= WAITS.get(name, 0), count.table()
        assert waits[case][1] <= 1
