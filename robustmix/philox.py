"""Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A counter-based generator: whole-number arithmetic on counters and keys, hence equal bit for bit on
any device. Three forms of it: for tensors of any device, one word an int64; for NumPy's arrays,
which a CPU computes fastest, two words a uint64; and for a few words, which are there in a third of
the time that it takes to ask NumPy for them, Python's integers.
"""

import numpy as np
from numpy.typing import NDArray

from robustmix.later import Tensor, torch

Pairs = NDArray[np.uint64]

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def words_on_device(
    keys: Tensor, blocks: int, counter_high: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four words a counter, from 0 to ``blocks`` - 1, int64 (N, blocks) each.

    Args:
        keys: int64 (N,); the low half is the first key word.
        blocks: how many counters.
        counter_high: third counter word.
    """
    rounds = torch.arange(_ROUNDS, device=keys.device).reshape(-1, 1, 1)
    counter = torch.arange(blocks, device=keys.device)
    keys = keys.unsqueeze(1)
    halves = (keys & _LOW, (keys >> 32) & _LOW)
    first, second = (
        (half + rounds * step) & _LOW for half, step in zip(halves, _KEY_STEPS, strict=True)
    )
    zero = keys[:1] & 0
    c0, c1, c2, c3 = counter[None], zero, zero + counter_high, zero
    for round_ in range(_ROUNDS):
        k0, k1 = first[round_], second[round_]
        # The int64 product wraps modulo 2^64, which keeps all 64 bits of an unsigned one.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, high2 = p1 >> 32, p0 >> 32
        if round_ < 2:  # words that are alike for all counters or for all keys are still small
            high0, high2 = high0 ^ (c1 ^ k0), high2 ^ (c3 ^ k1)
        else:
            high0 ^= c1
            high0 ^= k0
            high2 ^= c3
            high2 ^= k1
        high0 &= _LOW
        high2 &= _LOW
        # The low words keep what stands above them: the mask of the next round removes it.
        c0, c1, c2, c3 = high0, p1, high2, p0
    return c0, c1 & _LOW, c2, c3 & _LOW


def words_of(key: int, counter: int, counter_high: int) -> tuple[int, int, int, int]:
    """Return the four words of one counter, as whole numbers below 2^32."""
    k0, k1 = key & _LOW, key >> 32 & _LOW
    c0, c1, c2, c3 = counter, 0, counter_high, 0
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _LOW, (p0 >> 32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = k0 + _KEY_STEPS[0] & _LOW, k1 + _KEY_STEPS[1] & _LOW
    return c0, c1, c2, c3


# Arrays without axes: NumPy takes longer to find out what to do with a scalar.
HALF = np.array(32, np.uint64)
"""Bits of a word."""

LOW = np.array(_LOW, np.uint64)
"""The second word of a pair; the first one stands above it."""

_BY_PAIR = tuple(np.array(multiplier, np.uint64) for multiplier in _MULTIPLIERS)

# What a key grows by, as (lower, upper word), for rounds 0, 2, ... and the two pairs.
_STEPS = np.array(
    [
        [[(i + 1) * step % 2**32, i * step % 2**32] for step in _KEY_STEPS]
        for i in range(0, _ROUNDS, 2)
    ],
    np.uint32,
).reshape(-1, 2, 1, 2)


def pairs(keys: NDArray[np.int64], blocks: int, counter_high: int) -> Pairs:
    """Return the same words in pairs: the first and second, the third and fourth of a counter.

    A round multiplies the upper word of each pair, and adds the lower word and a key to the upper
    word of the product, without carry; that is the other pair.

    Returns:
        uint64 (2, N, blocks).
    """
    # What is added to a lower word comes to the upper one a round later, so every other round adds
    # the keys of two. Lower words stand first in memory, and their sums wrap at 2^32.
    words = keys.view(np.uint32).reshape(-1, 2).T
    added = (words[:, :, None] + _STEPS).view(np.uint64)
    pair = np.empty((2, len(keys), blocks), np.uint64)
    pair[0] = counter_high * _MULTIPLIERS[1]
    np.multiply(np.arange(blocks, dtype=np.uint64), _MULTIPLIERS[0], out=pair[1])
    pair ^= added[0]
    product = np.empty_like(pair)
    (first, second), (of_second, of_first) = pair, product  # each pair becomes the other one
    by_first, by_second = _BY_PAIR
    upper, times = np.right_shift, np.multiply
    for round_ in range(1, _ROUNDS):
        upper(first, HALF, of_first)
        times(of_first, by_first, of_first)
        upper(second, HALF, of_second)
        times(of_second, by_second, of_second)
        pair <<= HALF
        pair ^= product
        if round_ % 2 == 0:
            pair ^= added[round_ // 2]
    return pair
