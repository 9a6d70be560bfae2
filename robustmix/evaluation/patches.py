"""Occlusion masks: which patches of which image are hidden, and with what.

Patches are numbered row by row. A ranking gives every patch of every image its place in the order
in which patches are hidden; the masks of one ranking are nested.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, get_args

from robustmix.errors import UsageError
from robustmix.evaluation.params import read_fraction
from robustmix.later import F, RobustModel, Tensor, torch
from robustmix.rng import normal, permutations

Fill = Literal["mean", "black", "image_mean", "noise", "blur"]
FILLS: tuple[Fill, ...] = ("mean", "black", "image_mean", "noise", "blur")
CONSTANT_FILLS: tuple[Fill, ...] = ("mean", "black")
"""Fills that hide all of an image so that nothing of it is left."""

CountRule = Literal["half-up", "half-even", "floor"]
COUNT_RULES: tuple[CountRule, ...] = get_args(CountRule)

MOST_TRIALS = 1000
"""Most random masks a sample; each is a pass over all samples and has columns of its own."""

MOST_OFFSET = 1_000_000
"""Largest shift of a grid in pixels, far above any image's side."""

MOST_RATIOS = 10_000
"""Most points of a curve; a smaller step is a slip, and would fill the memory."""

ROUNDED = 2.0**-23
"""Relative error of a sum of float32 numbers that were rounded on their way into a file."""

TIE = 2.0**-20
"""Patches whose saliency differs by less than this share of the image's largest are equal: what a
network says of a patch it ignores is rounding, which must not order patches."""


def mask_count(ratio: Fraction, patches: int, rule: CountRule = "half-up") -> int:
    """Count how many patches a ratio hides, in exact rational arithmetic.

    Args:
        ratio: share of the patches, in [0, 1].
        patches: number of patches.
        rule: ``half-up`` is floor(ratio * patches + 1/2), the rule of the evaluation specification
            (7.1); ``half-even`` (banker's) and ``floor`` are those of published tools.

    Example:
        >>> [mask_count(Fraction(k, 10), 64) for k in range(1, 10)]
        [6, 13, 19, 26, 32, 38, 45, 51, 58]
    """
    if rule == "half-even":
        return round(ratio * patches)
    if rule == "floor":
        return math.floor(ratio * patches)
    return math.floor(ratio * patches + Fraction(1, 2))


def patch_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Give the height and width of a patch.

    Raises:
        UsageError: the grid does not divide the image; nothing is cropped silently.
    """
    (height, width), (rows, columns) = size, grid
    if rows < 1 or columns < 1 or height % rows or width % columns:
        raise UsageError(
            f"a grid of {rows}x{columns} does not divide images of {height}x{width}",
            "choose a grid that divides the image",
            code="E-GRID",
        )
    return height // rows, width // columns


def usual_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Give the grid for images of a size, where the network has none of its own."""
    return (8, 8) if max(size) <= 64 else (14, 14)


def nearest_grid(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Give the grid that divides images, of more than one row and column, nearest to the wanted.

    Nearness is the ratio of the sides of patches; of two equally near the finer is taken.

    Args:
        size: height and width of the images.
        wanted: rows and columns.

    Example:
        >>> nearest_grid((28, 28), (8, 8)), nearest_grid((96, 299), (14, 14))
        ((7, 7), (16, 13))
    """
    rows, columns = (nearest_divisor(*pair) for pair in zip(size, wanted, strict=True))
    return rows, columns


def nearest_divisor(length: int, wanted: float) -> int:
    """Give the divisor of a length, above 1, whose ratio to the wanted number is nearest to 1."""
    divisors = [d for d in range(2, length + 1) if length % d == 0] or [1]
    return min(divisors, key=lambda d: (max(d / wanted, wanted / d), -d))


def token_patch(robust: RobustModel) -> list[float] | None:
    """Give height and width of a transformer's patches in pixels of the model's images.

    None for a network that does not cut images into tokens, or into tokens that overlap (PVT).
    """
    embed = getattr(robust.net, "patch_embed", None)
    patch = getattr(embed, "patch_size", None)
    if not isinstance(patch, tuple) or len(patch) != 2 or not hasattr(embed, "grid_size"):
        return None
    height, width = robust.resize or robust.input_size[1:]
    return [patch[0] * robust.input_size[1] / height, patch[1] * robust.input_size[2] / width]


def own_grid(size: tuple[int, int], token: Sequence[float] | None) -> tuple[int, int] | None:
    """Give rows and columns of a transformer's own patches.

    None if there are none, or they are no whole pixels of the images, which are then enlarged in
    the network.

    Args:
        size: height and width of the images.
        token: see ``token_patch``.

    Example:
        >>> own_grid((224, 224), [32.0, 32.0]), own_grid((32, 32), [16 * 32 / 224] * 2)
        ((7, 7), None)
    """
    if token is None or not all(float(side).is_integer() and side >= 1 for side in token):
        return None
    height, width = map(int, token)
    if size[0] % height or size[1] % width:
        return None
    grid = size[0] // height, size[1] // width
    return grid if grid != (1, 1) else None


def is_aligned(
    patch: tuple[int, int], offset: tuple[int, int], token: Sequence[float] | None
) -> bool | None:
    """Tell whether masks hide whole tokens; None if there are no tokens.

    Args:
        patch: height and width of a mask's patch in pixels.
        offset: see ``hidden_pixels``.
        token: see ``token_patch``.

    Example:
        >>> is_aligned((28, 28), (0, 0), [16.0, 16.0]), is_aligned((32, 32), (16, 0), [16.0, 16.0])
        (False, True)
    """
    if token is None:
        return None
    down, across = token
    return all(
        (length / side).is_integer()
        for length, side in (
            (patch[0], down),
            (offset[1], down),
            (patch[1], across),
            (offset[0], across),
        )
    )


def scope_ids(scope: str, indices: Tensor, sample_ids: Sequence[str]) -> list[str]:
    """Give the id that each sample's mask is drawn for.

    Args:
        scope: ``sample``, or ``batch:100``: one mask for every 100 samples that follow each other
            in the evaluated set, whatever the batch size is.
        indices: positions of the samples in the evaluated set, (n,).
        sample_ids: their ids.

    Raises:
        UsageError: there is no such scope.

    Example:
        >>> scope_ids("batch:2", torch.tensor([1, 2, 3]), ["a", "b", "c"])
        ['batch:2/0', 'batch:2/1', 'batch:2/1']
    """
    size = scope_size(scope)
    if size is None:
        return list(sample_ids)
    return [f"{scope}/{i // size}" for i in indices.tolist()]


def scope_size(scope: str) -> int | None:
    """Read how many samples share a mask; None for a mask of its own for each.

    Raises:
        UsageError: there is no such scope.
    """
    if scope == "sample":
        return None
    kind, _, count = scope.partition(":")
    if kind != "batch" or not count.isdecimal() or len(count) > 9 or int(count) < 1:
        raise UsageError(
            f"unknown mask scope '{scope[:80]}'", "write sample or batch:100", code="E-MASK-SCOPE"
        )
    return int(count)


def check_trials(trials: int) -> None:
    """Refuse fewer than one trial, and more than anyone runs.

    Raises:
        UsageError: there are.
    """
    if trials < 1:
        raise UsageError(f"expected --trials >= 1, got {trials}", code="E-TRIALS")
    if trials > MOST_TRIALS:
        raise UsageError(f"expected --trials <= {MOST_TRIALS}, got {trials}", code="E-TRIALS")


def parse_grid(text: str) -> tuple[int, int]:
    """Read rows and columns of patches from ``8x8``.

    Raises:
        UsageError: it is no grid.

    Example:
        >>> parse_grid("8x4")
        (8, 4)
    """
    rows, _, columns = text.partition("x")
    if not all(side.isdecimal() and len(side) < 6 for side in (rows, columns)):
        raise UsageError(f"cannot read grid '{text[:80]}'", "write it as 8x8", code="E-GRID")
    return int(rows), int(columns)


def parse_ratios(text: str) -> tuple[Fraction, ...]:
    """Read shares from ``0,0.5,1`` or ``0:1:0.1`` (start, end, step), exactly.

    Raises:
        UsageError: it is neither.

    Example:
        >>> parse_ratios("0:1:0.5")
        (Fraction(0, 1), Fraction(1, 2), Fraction(1, 1))
    """
    try:
        if ":" not in text:
            return tuple(map(read_fraction, text.split(",")))
        start, end, step = map(read_fraction, text.split(":"))
        if step <= 0 or (end - start) / step > MOST_RATIOS:
            raise ValueError
        return tuple(start + i * step for i in range(int((end - start) / step) + 1))
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"cannot read ratios '{text[:80]}'", "write 0,0.1,0.5 or 0:1:0.1", code="E-RATIOS"
        ) from None


def parse_offset(text: str) -> tuple[int, int]:
    """Read pixels right and down from ``8,8``.

    Raises:
        UsageError: these are not two numbers.
    """
    try:
        right, down = (int(item) for item in text.split(",", 2))
    except ValueError:
        raise UsageError(
            f"cannot read offset '{text[:80]}'", "write it as 8,8", code="E-OFFSET"
        ) from None
    return right, down


def check_offset(offset: tuple[int, int]) -> None:
    """Refuse a shift that no image is as large as.

    Raises:
        UsageError: it is one.
    """
    if any(abs(shift) > MOST_OFFSET for shift in offset):
        raise UsageError("the offset is larger than any image", "write 8,8", code="E-OFFSET")


def as_ranks(order: Tensor) -> Tensor:
    """Give the place of every patch in an order of patches; both int64 (N, patches)."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def random_ranks(keys: Tensor, patches: int) -> Tensor:
    """Draw uniformly random rankings, int64 (N, patches), one a key (N,)."""
    return as_ranks(permutations(keys, patches))


def patch_sums(maps: Tensor, grid: tuple[int, int], offset: tuple[int, int] = (0, 0)) -> Tensor:
    """Give the sum of each patch, float64 (N, patches).

    Args:
        maps: not negative, (N, H, W).
        grid: rows and columns of patches; it divides H and W.
        offset: see ``hidden_pixels``.
    """
    height, width = patch_size((maps.shape[1], maps.shape[2]), grid)
    wide = maps.to(torch.float32 if maps.device.type == "mps" else torch.float64)
    wide = wide.roll((-offset[1], -offset[0]), dims=(1, 2))
    return wide.view(len(maps), grid[0], height, grid[1], width).sum(dim=(2, 4)).flatten(1)


def foreground(sums: Tensor, share: Fraction) -> Tensor:
    """Tell which patches hold the most salient share of an image's saliency, bool (N, patches).

    Patches in rising order (of equals the lower index first) are cumulated over the sum of all;
    foreground are those whose cumulated value is above 1 - share. So the last of the patches that
    make up the share is in only if it does not overshoot it, but for the most salient patch, which
    is in for every share above 0; of a map that is 0 everywhere none is.

    Args:
        sums: saliency of each patch, not negative, (N, patches).
        share: of the saliency, in [0, 1].

    Reference:
        Naseer et al. 2021, arXiv:2105.10497, section 3.1, as their code has it.

    Example:
        >>> foreground(torch.tensor([[0.05, 0.10, 0.15, 0.30, 0.40]]), Fraction(1, 2)).tolist()
        [[False, False, False, True, True]]
    """
    order = sums.argsort(dim=1, stable=True)
    cumulated = sums.gather(1, order).cumsum(dim=1)
    # The slack is relative: at share 1 every patch with saliency is in, however little it has.
    least = float(1 - share) * (1 + ROUNDED) * cumulated[:, -1:]
    return torch.zeros_like(sums, dtype=torch.bool).scatter_(1, order, cumulated > least)


def patch_scores(maps: Tensor, grid: tuple[int, int], offset: tuple[int, int] = (0, 0)) -> Tensor:
    """Give the sum of each patch over the largest of its image, float64 (N, patches).

    It is a whole number of units of ``TIE``, from 0 to 2^20; all 0 for a map that is 0 everywhere.
    Arguments are those of ``patch_sums``.
    """
    sums = patch_sums(maps, grid, offset)
    return (sums / sums.amax(dim=1, keepdim=True) / TIE).round().nan_to_num(0.0)


def score_ranks(scores: Tensor, *, largest_first: bool, ties: Tensor | None = None) -> Tensor:
    """Rank patches by score, int64 (N, patches).

    Args:
        scores: (N, patches).
        largest_first: whether the patch with the largest score is hidden first.
        ties: keys of a random order among equals, int64 (N,); None takes the lower index first.
    """
    if ties is None:
        return as_ranks(scores.argsort(dim=1, descending=largest_first, stable=True))
    shuffled = permutations(ties, scores.shape[1])
    order = scores.gather(1, shuffled).argsort(dim=1, descending=largest_first, stable=True)
    return as_ranks(shuffled.gather(1, order))


def hidden_pixels(
    ranks: Tensor,
    count: int,
    size: tuple[int, int],
    grid: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
) -> Tensor:
    """Tell which pixels are hidden, bool (N, 1, H, W).

    Args:
        ranks: ranking of the patches, int64 (N, patches).
        count: how many patches are hidden: those ranked below it.
        size: height and width of the images.
        grid: rows and columns of patches.
        offset: pixels by which the grid is shifted right and down. It goes round the edges, so
            that patches keep their size and a count its share of the image.
    """
    return patch_pixels(ranks < count, size, grid, offset)


def patch_pixels(
    hidden: Tensor,
    size: tuple[int, int],
    grid: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
) -> Tensor:
    """Tell which pixels are hidden, bool (N, 1, H, W), where ``hidden`` (N, patches) patches are.

    Other arguments are those of ``hidden_pixels``.
    """
    height, width = patch_size(size, grid)
    hidden = hidden.view(-1, 1, *grid)
    hidden = hidden.repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)
    return hidden.roll((offset[1], offset[0]), dims=(2, 3)) if any(offset) else hidden


def nested_masks(
    keys: Tensor, counts: Sequence[int], size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Tell which pixels random masks hide, bool (len(counts), N, 1, H, W).

    Every sample has one permutation of its patches; a count hides the first of it, so a larger
    count hides a superset.

    Args:
        keys: one per-sample key a mask, int64 (N,).
        counts: patches to hide.
        size: height and width of the images.
        grid: rows and columns of patches.
    """
    ranks = random_ranks(keys, grid[0] * grid[1])
    return torch.stack([hidden_pixels(ranks, count, size, grid) for count in counts])


def filling(
    images: Tensor,
    fill: Fill,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    patch: tuple[int, int],
    keys: Tensor,
) -> Tensor:
    """Make what hidden pixels show, broadcastable to ``images``, in [0, 1].

    Args:
        images: float32 (N, 3, H, W) in [0, 1].
        fill: ``mean`` is the mean colour of the data set (zero after normalisation), ``black`` is 0
            before normalisation, ``image_mean`` the image's own mean colour, ``noise`` is
            N(mean, std) per pixel and channel, clipped, ``blur`` a Gaussian blur of the image whose
            sigma is the patch height.
        mean: mean of the data set a channel.
        std: standard deviation a channel.
        patch: height and width of a patch.
        keys: per-sample keys of the noise, int64 (N,).
    """
    colour = torch.tensor(mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    if fill == "mean":
        return colour
    if fill == "black":
        return torch.zeros_like(colour)
    if fill == "image_mean":
        return images.mean(dim=(2, 3), keepdim=True)
    if fill == "noise":
        spread = torch.tensor(std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        draws = normal(keys, images[0].numel()).to(images)
        return (colour + spread * draws.view_as(images)).clamp(0, 1)
    return _blur(images, float(patch[0]))


def _blur(images: Tensor, sigma: float) -> Tensor:
    for axis in (2, 3):
        reach = min(math.ceil(3 * sigma), images.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        taps = torch.exp(-(steps**2) / (2 * sigma**2))
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        kernel = (taps / taps.sum()).view(shape).repeat(3, 1, 1, 1)
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        images = F.conv2d(F.pad(images, pad, mode="reflect"), kernel, groups=3)
    return images.clamp(0, 1)
