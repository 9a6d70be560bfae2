from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from robustmix.errors import UsageError
from robustmix.evaluation.masks import FILLS, filling, mask_count, nested_masks, patch_size
from robustmix.rng import permutations, sample_keys


@pytest.mark.parametrize(
    ("patches", "want"),
    [
        (196, [20, 39, 59, 78, 98, 118, 137, 157, 176]),
        (64, [6, 13, 19, 26, 32, 38, 45, 51, 58]),
        (16, [2, 3, 5, 6, 8, 10, 11, 13, 14]),
    ],
)
def test_trap_18_mask_counts_are_rounded_half_up(patches: int, want: list[int]) -> None:
    assert [mask_count(Fraction(k, 10), patches) for k in range(1, 10)] == want


def test_mask_count_does_not_use_bankers_rounding() -> None:
    assert [mask_count(Fraction(1, 2), n) for n in (1, 3, 5)] == [1, 2, 3]


def test_masks_equal_a_loop_over_patches() -> None:
    keys = sample_keys(0, "occlusion", "x", 0, ["a", "b", "c"])
    size, grid = (6, 20), (3, 4)
    masks = nested_masks(keys, [0, 5, 12], size, grid)
    order = permutations(keys, 12)
    for which, count in enumerate([0, 5, 12]):
        for sample in range(3):
            want = torch.zeros(size, dtype=torch.bool)
            for patch in order[sample, :count].tolist():
                row, column = divmod(patch, 4)
                want[row * 2 : row * 2 + 2, column * 5 : column * 5 + 5] = True
            assert torch.equal(masks[which, sample, 0], want)


def test_masks_are_nested_and_differ_between_samples() -> None:
    keys = sample_keys(0, "occlusion", "x", 0, [str(i) for i in range(50)])
    masks = nested_masks(keys, list(range(17)), (8, 8), (4, 4))
    assert bool((masks[1:] | ~masks[:-1]).all())
    assert len({tuple(m.flatten().tolist()) for m in masks[8]}) > 45


def test_a_grid_that_does_not_divide_is_refused() -> None:
    assert patch_size((32, 64), (8, 4)) == (4, 16)
    for grid in ((7, 8), (8, 5), (0, 8)):
        with pytest.raises(UsageError, match="does not divide"):
            patch_size((32, 32), grid)


@pytest.mark.parametrize("fill", FILLS)
def test_fillings_by_hand(fill: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 16, 20, generator=generator)
    keys = sample_keys(0, "occlusion", "noise", 0, list("abcde"))
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.1, 0.3]
    got = filling(images, fill, mean=mean, std=std, patch=(2, 4), keys=keys)  # type: ignore[arg-type]
    if fill == "mean":
        want = torch.tensor(mean).view(1, 3, 1, 1)
    elif fill == "black":
        want = torch.zeros(1, 3, 1, 1)
    elif fill == "image_mean":
        want = torch.from_numpy(images.numpy().mean(axis=(2, 3), keepdims=True))
    elif fill == "blur":
        blurred = gaussian_filter1d(images.numpy(), 2.0, axis=2, mode="mirror", truncate=3)
        blurred = gaussian_filter1d(blurred, 2.0, axis=3, mode="mirror", truncate=3)
        want = torch.from_numpy(np.clip(blurred, 0, 1))
    else:
        assert got.shape == images.shape
        assert float(got.amin()) >= 0
        assert float(got.amax()) <= 1
        inner = got[:, 1]  # mean .5, sd .1: clipping is five standard deviations away
        assert abs(float(inner.mean()) - 0.5) < 5 * 0.1 / inner.numel() ** 0.5
        assert abs(float(inner.std()) - 0.1) < 0.01
        one = filling(images[2:3], "noise", mean=mean, std=std, patch=(2, 4), keys=keys[2:3])
        assert torch.equal(one, got[2:3])
        return
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-6)


def test_trap_19_fill_mean_is_zero_and_black_is_minus_mean_over_std_after_normalisation() -> None:
    from tests.evaluation.tiny import tiny_model

    robust = tiny_model()
    seen: list[torch.Tensor] = []
    robust.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keys = sample_keys(0, "occlusion", "noise", 0, ["a", "b"])
    mean, std = robust.mean.flatten().tolist(), robust.std.flatten().tolist()
    for fill in ("mean", "black"):
        show = filling(images, fill, mean=mean, std=std, patch=(4, 4), keys=keys)
        robust(show.expand_as(images))
    assert not seen[0].any()
    want = (-robust.mean / robust.std).expand_as(seen[1])
    assert torch.equal(seen[1], want)
