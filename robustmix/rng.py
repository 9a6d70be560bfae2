"""Per-sample randomness: counter-based, so no result depends on batch, order, device or shard.

Every sample gets a 64-bit key from (run seed, suite, condition, trial, sample id); the key selects
an independent stream of Philox4x32-10 (``philox.py``), which is equal bit for bit on any device.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustmix.later import Tensor, torch
from robustmix.philox import HALF, LOW, pairs, words_of, words_on_device

GENERATOR = "philox4x32-10/1"
"""Name and version of the generator, recorded in every report."""


def sample_keys(
    seed: int, suite: str, condition: str, trial: int, sample_ids: Sequence[str]
) -> Tensor:
    """Return one 64-bit key a sample, int64 (N,), on the CPU.

    The key is the first 8 bytes (big endian) of SHA-256 over the five fields, joined by the unit
    separator (0x1F).
    """
    return torch.from_numpy(_keys(seed, suite, condition, trial, sample_ids))


def _keys(
    seed: int, suite: str, condition: str, trial: int, sample_ids: Sequence[str]
) -> NDArray[np.int64]:
    prefix = hashlib.sha256(f"{seed}\x1f{suite}\x1f{condition}\x1f{trial}\x1f".encode())
    keys = bytearray()
    for sample_id in sample_ids:
        digest = prefix.copy()
        digest.update(sample_id.encode())
        keys += digest.digest()[:8]
    return np.frombuffer(keys, _BIG_ENDIAN).astype(np.int64)


_BIG_ENDIAN = np.dtype(">i8")


def philox(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return ``count`` random 32-bit words a key, as int64 (N, count) in [0, 2^32).

    Args:
        keys: 64-bit keys, int64 (N,); the low half is the first key word.
        count: words wanted per key.
        counter_high: third counter word; other values give further independent streams.
    """
    if keys.device.type == "cpu":
        drawn = words_on_cpu(keys, count, counter_high=counter_high)
        return torch.from_numpy(drawn.astype(np.int64))
    words = words_on_device(keys, -(-count // 4), counter_high)
    return torch.stack(words, dim=2).flatten(1)[:, :count]


def words_on_cpu(keys: Tensor, count: int, *, counter_high: int = 0) -> NDArray[np.uint32]:
    """Return what ``philox`` does for keys on a CPU, uint32 (N, count)."""
    blocks = -(-count // 4)
    # Of a pair the second word stands first in memory.
    drawn = pairs(keys.numpy(), blocks, counter_high).view(np.uint32)
    halves = drawn.reshape(2, len(keys), blocks, 2)[..., ::-1]
    return halves.transpose(1, 2, 0, 3).reshape(len(keys), 4 * blocks)[:, :count]


FEW = 4
"""Counters that are drawn one by one."""


def uniform(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return uniforms in the open interval (0, 1), float64 (N, count), 32 bits each."""
    blocks = -(-count // 4)
    if keys.device.type != "cpu":
        drawn = torch.stack(words_on_device(keys, blocks, counter_high), dim=2)
        return _open_interval(drawn).flatten(1)[:, :count]
    if len(keys) * blocks <= FEW:
        each = [words_of(key, i, counter_high) for key in keys.tolist() for i in range(blocks)]
        put = np.array(each, np.uint64)
    else:
        put = np.empty((len(keys), blocks, 4), np.uint64)
        for i, pair in enumerate(pairs(keys.numpy(), blocks, counter_high)):
            np.right_shift(pair, HALF, out=put[:, :, 2 * i])
            np.bitwise_and(pair, LOW, out=put[:, :, 2 * i + 1])
    return torch.from_numpy(_between_0_and_1(put).reshape(len(keys), 4 * blocks)[:, :count])


def _open_interval(words: Tensor) -> Tensor:
    return words.to(torch.float64).add_(0.5).mul_(2.0**-32)


# Arrays without axes: NumPy takes longer to find out what to do with a number.
_EXPONENT = np.array(0x4130000000000000, np.uint64)
"""Of 2^20, whose last bit as a float64 is 2^-32: a word put behind it is added times 2^-32."""

_ABOVE = np.array(2.0**20 - 2.0**-33)
"""By how much that is more than half a step above the word."""


def _between_0_and_1(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return (word + 1/2) / 2^32; words are below 2^32, and overwritten."""
    words |= _EXPONENT
    drawn = words.view(np.float64)
    drawn -= _ABOVE
    return drawn


def normal(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return standard normals, float64 (N, count), by the Box-Muller transform."""
    blocks = -(-count // 4)
    if keys.device.type == "cpu":
        return torch.from_numpy(_normal_on_cpu(keys.numpy(), blocks, counter_high)[:, :count])
    w0, w1, w2, w3 = words_on_device(keys, blocks, counter_high)
    first, second = (
        _open_interval(torch.stack(several, dim=2)) for several in ((w0, w2), (w1, w3))
    )
    radius = first.log_().mul_(-2.0).sqrt_()
    angle = second.mul_(2.0 * math.pi)
    # A complex number is two floats side by side: that interleaves them in one go.
    drawn = torch.complex(angle.cos().mul_(radius), angle.sin_().mul_(radius))
    return torch.view_as_real(drawn).flatten(1)[:, :count]


def _normal_on_cpu(keys: NDArray[np.int64], blocks: int, counter_high: int) -> NDArray[np.float64]:
    """Return four normals a counter (N, 4 * blocks).

    NumPy starts an operation sooner than torch does, but its functions differ in the last digit:
    what is a function is torch's.
    """
    words = pairs(keys, blocks, counter_high)
    radius = _between_0_and_1(np.right_shift(words, HALF))
    words &= LOW
    angle = _between_0_and_1(words)
    logarithm = torch.from_numpy(radius).log_()
    radius *= -2.0
    logarithm.sqrt_()
    angle *= 2.0 * math.pi
    angles = torch.from_numpy(angle)
    cosine = angles.cos().numpy()
    angles.sin_()
    cosine *= radius
    angle *= radius
    drawn = np.empty((len(keys), blocks, 4))
    for pair in range(2):
        drawn[:, :, 2 * pair] = cosine[pair]
        drawn[:, :, 2 * pair + 1] = angle[pair]
    return drawn.reshape(len(keys), -1)


def permutations(keys: Tensor, n: int) -> Tensor:
    """Return a uniformly random permutation of ``range(n)`` a key, int64 (N, n)."""
    return philox(keys, n).argsort(dim=1, stable=True)


def seeded_subset(seed: int, sample_ids: Sequence[str], count: int) -> Tensor | None:
    """Choose ``count`` samples: their positions, rising, int64; None if that is all of them.

    The smaller of two subsets lies in the larger one, and whether a sample is chosen depends on
    its id, so that reports over the same split pair.
    """
    chosen = subset_positions(seed, sample_ids, count)
    return None if chosen is None else torch.from_numpy(chosen)


def subset_positions(seed: int, sample_ids: Sequence[str], count: int) -> NDArray[np.int64] | None:
    """Choose as ``seeded_subset`` does, without torch: int64 (count,), rising."""
    if count >= len(sample_ids):
        return None
    order = np.argsort(_keys(seed, "subset", "", 0, sample_ids), kind="stable")
    return np.sort(order[:count])
