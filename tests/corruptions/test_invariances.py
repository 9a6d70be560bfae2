"""What a corruption must leave as it is, checked on images where that is known."""

import pytest
import torch
from torch import Tensor

from robustmix.corruptions import GROUPS, NAMES, SEVERITIES, corrupt

GREY_STAYS_GREY = [
    name
    for name in NAMES
    if name not in GROUPS["noise"] and name not in ("saturate", "frost", "spatter")
]


def grey_images() -> Tensor:
    one = torch.randint(
        0, 256, (3, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return one.expand(3, 3, 32, 32)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", GREY_STAYS_GREY)
def test_grey_stays_grey(name: str, severity: int) -> None:
    red, green, blue = corrupt(grey_images(), name, severity, seed=0).unbind(1)
    assert torch.equal(red, green)
    assert torch.equal(red, blue)


@pytest.mark.parametrize(("severity", "shifted"), [(1, False), (3, False), (4, True), (5, True)])
def test_saturate_turns_grey_red_where_it_shifts(severity: int, shifted: bool) -> None:
    images = grey_images()
    red, green, blue = corrupt(images, "saturate", severity, seed=0).long().unbind(1)
    assert torch.equal(green, blue)
    assert bool((red > green).any()) == shifted
    assert bool(((images[:, 0] - red).abs() <= 1).all())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_of_white_is_white(severity: int) -> None:
    """Clipping after the cast to uint8 would wrap white to black."""
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert torch.equal(corrupt(white, "brightness", severity, seed=0), white)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("name", NAMES)
def test_black_and_white_do_not_wrap(name: str, level: int) -> None:
    """Nothing but impulses, flakes, mud and noise beyond 3.9 deviations lands at the other end."""
    flat = torch.full((2, 3, 32, 32), level, dtype=torch.uint8)
    for severity in SEVERITIES:
        out = corrupt(flat, name, severity, seed=0).long()
        far = ((out - level).abs() > 200).double().mean()
        assert far < (0.05 if name in ("impulse_noise", "snow", "spatter") else 1e-3)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_keeps_channel_means_up_to_truncation(severity: int) -> None:
    images = torch.randint(
        0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    out = corrupt(images, "contrast", severity, seed=0)
    lowered = images.double().mean((2, 3)) - out.double().mean((2, 3))
    assert bool(((lowered > 0) & (lowered < 1)).all())


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur", "contrast", "pixelate"])
def test_flat_images_stay_flat(name: str) -> None:
    flat = torch.tensor([7, 100, 201], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    for severity in SEVERITIES:
        out = corrupt(flat, name, severity, seed=0)
        # Rounding error below a whole level is cut off by the truncation.
        assert bool(((flat.long() - out) <= 1).all())
        assert bool((out <= flat).all())
