from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from robustmix.errors import UsageError
from robustmix.evaluation.patches import (
    FILLS,
    CountRule,
    as_ranks,
    filling,
    hidden_pixels,
    is_aligned,
    mask_count,
    nested_masks,
    parse_grid,
    parse_offset,
    parse_ratios,
    patch_scores,
    patch_size,
    scope_ids,
    score_ranks,
    token_patch,
)
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


def test_trap_18_mask_counts_do_not_use_bankers_rounding() -> None:
    assert [mask_count(Fraction(1, 2), n) for n in (1, 3, 5)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("patches", "rule", "want"),
    [
        (196, "floor", [19, 39, 58, 78, 98, 117, 137, 156, 176]),
        (196, "half-even", [20, 39, 59, 78, 98, 118, 137, 157, 176]),
        (15, "half-even", [2, 3, 4, 6, 8, 9, 10, 12, 14]),
        (15, "half-up", [2, 3, 5, 6, 8, 9, 11, 12, 14]),
    ],
)
def test_trap_18_the_rules_of_published_tools(
    patches: int, rule: CountRule, want: list[int]
) -> None:
    """4.5 and 10.5 of 15 patches tell half-up from half-even; no count comes from a float."""
    assert [mask_count(Fraction(k, 10), patches, rule) for k in range(1, 10)] == want


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


@pytest.mark.parametrize("offset", [(0, 0), (3, 1), (-2, 5)])
def test_an_offset_moves_patches_round_the_edges(offset: tuple[int, int]) -> None:
    order = torch.tensor([[4, 1, 0, 5, 2, 3]])
    size, grid = (6, 12), (2, 3)
    for count in range(7):
        got = hidden_pixels(as_ranks(order), count, size, grid, offset)
        want = torch.zeros(size, dtype=torch.bool)
        for patch in order[0, :count].tolist():
            for y in range(3):
                for x in range(4):
                    row = (patch // 3 * 3 + y + offset[1]) % 6
                    want[row, (patch % 3 * 4 + x + offset[0]) % 12] = True
        assert torch.equal(got[0, 0], want)


@pytest.mark.parametrize("offset", [(0, 0), (3, 1)])
def test_patch_scores_are_the_sums_under_the_patches(offset: tuple[int, int]) -> None:
    maps = torch.rand(4, 6, 12, generator=torch.Generator().manual_seed(0))
    scores = patch_scores(maps, (2, 3), offset)
    sums = torch.zeros(4, 6, dtype=torch.float64)
    for patch in range(6):
        first = torch.where(torch.arange(6) == patch, 0, 9).unsqueeze(0)
        inside = hidden_pixels(first, 1, (6, 12), (2, 3), offset)[0, 0]
        sums[:, patch] = maps[:, inside].double().sum(dim=1)
    want = sums / sums.amax(dim=1, keepdim=True)
    torch.testing.assert_close(scores / 2**20, want, atol=1e-6, rtol=0)


def test_equal_scores_are_ordered_by_index_and_rounding_does_not_count() -> None:
    maps = torch.tensor([[[0.5, 0.25], [0.5, 0.25]]])
    noisy = maps * (1 + 1e-7 * torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    for one in (maps, noisy):
        scores = patch_scores(one, (2, 2))
        assert score_ranks(scores, largest_first=True).tolist() == [[0, 2, 1, 3]]
        assert score_ranks(scores, largest_first=False).tolist() == [[2, 0, 3, 1]]
    nothing = patch_scores(torch.zeros(1, 4, 4), (2, 2))
    assert nothing.tolist() == [[0, 0, 0, 0]]


def test_random_ties_are_uniform_within_equals_only() -> None:
    keys = sample_keys(0, "occlusion", "x", 0, [str(i) for i in range(2000)])
    scores = torch.tensor([1.0, 5.0, 1.0, 1.0]).expand(2000, 4)
    ranks = score_ranks(scores, largest_first=True, ties=keys)
    assert bool((ranks[:, 1] == 0).all())
    for patch in (0, 2, 3):
        counts = ranks[:, patch].bincount(minlength=4)[1:]
        assert bool(((counts - 2000 / 3).abs() < 4 * (2000 * 2 / 9) ** 0.5).all())
    last = score_ranks(scores, largest_first=False, ties=keys)
    assert bool((last[:, 1] == 3).all())


def test_tokens_of_transformers_are_measured_in_pixels_of_the_images() -> None:
    import timm

    from robustmix.models.robust_model import RobustModel
    from tests.evaluation.tiny import MEAN, STD, tiny_model

    def wrapped(name: str, resize: int | None = None, **options: object) -> RobustModel:
        net = timm.create_model(name, num_classes=5, depth=1, **options)
        return RobustModel(
            net, mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32), resize=resize
        )

    vit = wrapped("vit_tiny_patch16_224", img_size=64, patch_size=8, resize=64)
    assert token_patch(vit) == [4.0, 4.0]
    assert token_patch(tiny_model()) is None
    token = token_patch(vit)
    assert is_aligned((4, 8), (0, 4), token) is True
    assert is_aligned((4, 4), (2, 0), token) is False
    assert is_aligned((4, 4), (0, 2), token) is False
    assert is_aligned((2, 4), (0, 0), token) is False
    assert is_aligned((4, 4), (0, 0), None) is None


def test_mask_scopes() -> None:
    ids = [f"s{i}" for i in range(5)]
    positions = torch.tensor([98, 99, 100, 101, 250])
    assert scope_ids("sample", positions, ids) == ids
    groups = [name.rpartition("/")[2] for name in scope_ids("batch:100", positions, ids)]
    assert groups == ["0", "0", "1", "1", "2"]
    for wrong in ("batch", "batch:0", "batch:x", "image", "sample:2"):
        with pytest.raises(UsageError, match="unknown mask scope"):
            scope_ids(wrong, positions, ids)


def test_grids_ratios_and_offsets_are_read_exactly() -> None:
    assert parse_grid("14x7") == (14, 7)
    assert parse_offset("8,-2") == (8, -2)
    assert parse_ratios("0,1/3,0.1") == (Fraction(0), Fraction(1, 3), Fraction(1, 10))
    # 0.1 eleven times is not 1.1 of binary numbers: the end belongs to the range.
    assert parse_ratios("0:1:0.1") == tuple(Fraction(k, 10) for k in range(11))
    assert parse_ratios("0.5:0.9:0.3") == (Fraction(1, 2), Fraction(4, 5))


@pytest.mark.parametrize(
    ("parse", "text", "code"),
    [
        (parse_grid, "8", "E-GRID"),
        (parse_grid, "8x8x8", "E-GRID"),
        (parse_grid, "x8", "E-GRID"),
        (parse_grid, "9" * 5000 + "x8", "E-GRID"),
        (parse_offset, "8", "E-OFFSET"),
        (parse_offset, "a,b", "E-OFFSET"),
        (parse_ratios, "0;1", "E-RATIOS"),
        (parse_ratios, "1/0", "E-RATIOS"),
        (parse_ratios, "0:1", "E-RATIOS"),
        (parse_ratios, "0:1:-0.1", "E-RATIOS"),
        (parse_ratios, "0:1:1/99999999", "E-RATIOS"),  # would fill the memory
        (parse_ratios, "0,1e99999999", "E-RATIOS"),  # would take minutes
    ],
)
def test_what_is_no_grid_ratio_or_offset_is_refused_in_a_short_line(
    parse: Callable[[str], object], text: str, code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.code == code
    assert len(caught.value.line()) < 160


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
