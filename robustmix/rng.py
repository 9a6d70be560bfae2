"""Per-sample randomness: counter-based, so no result depends on batch, order, device or shard.

Every sample gets a 64-bit key from (run seed, suite, condition, trial, sample id); the key selects
an independent stream of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"). The generator is integer arithmetic on tensors, hence equal bit for bit on any device.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robustmix.later import Tensor, torch

GENERATOR = "philox4x32-10/1"
"""Name and version of the generator, recorded in every report."""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Words = TypeVar("Words", Tensor, NDArray[np.int64])


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
    return np.frombuffer(keys, dtype=">i8").astype(np.int64)


def philox(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return ``count`` random 32-bit words a key, as int64 (N, count) in [0, 2^32).

    Args:
        keys: 64-bit keys, int64 (N,); the low half is the first key word.
        count: words wanted per key.
        counter_high: third counter word; other values give further independent streams.
    """
    words = philox_blocks(keys, -(-count // 4), counter_high=counter_high)
    return torch.stack(words, dim=2).flatten(1)[:, :count]


def philox_blocks(
    keys: Tensor, blocks: int, *, counter_high: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the words of ``philox`` before they are interleaved, int64 (N, blocks) each.

    Words 4 i to 4 i + 3 of a key are the four tensors' entries i.
    """
    if keys.device.type != "cpu":
        counter, rounds = (torch.arange(n, device=keys.device) for n in (blocks, _ROUNDS))
        return _rounds(keys.unsqueeze(1), counter, rounds, counter_high)
    # The same operators on arrays: NumPy multiplies whole numbers at twice the pace.
    counters = (np.arange(blocks), np.arange(_ROUNDS))
    w0, w1, w2, w3 = _rounds(keys.unsqueeze(1).numpy(), *counters, counter_high)
    return (
        torch.from_numpy(w0),
        torch.from_numpy(w1),
        torch.from_numpy(w2),
        torch.from_numpy(w3),
    )


def _rounds(
    keys: Words, counter: Words, rounds: Words, counter_high: int
) -> tuple[Words, Words, Words, Words]:
    rounds = rounds.reshape((-1, 1, 1))
    halves = (keys & _MASK, (keys >> 32) & _MASK)
    first, second = (
        (half + rounds * step) & _MASK for half, step in zip(halves, _KEY_STEPS, strict=True)
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
        high0 &= _MASK
        high2 &= _MASK
        # The low words keep what stands above them: the mask of the next round removes it.
        c0, c1, c2, c3 = high0, p1, high2, p0
    return c0, c1 & _MASK, c2, c3 & _MASK


def uniform(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return uniforms in the open interval (0, 1), float64 (N, count), 32 bits each."""
    words = philox_blocks(keys, -(-count // 4), counter_high=counter_high)
    drawn = torch.empty((*words[0].shape, 4), dtype=torch.float64, device=keys.device)
    for i, word in enumerate(words):
        drawn[:, :, i] = word
    return drawn.flatten(1).add_(0.5).mul_(2.0**-32)[:, :count]


def normal(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return standard normals, float64 (N, count), by the Box-Muller transform."""
    blocks = -(-count // 4)
    w0, w1, w2, w3 = philox_blocks(keys, blocks, counter_high=counter_high)
    shape, device = (len(keys), 2, blocks), keys.device
    first, second = (torch.empty(shape, dtype=torch.float64, device=device) for _ in range(2))
    first[:, 0], first[:, 1], second[:, 0], second[:, 1] = w0, w2, w1, w3
    radius = first.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    # A power of two changes no digit, so one product does for the angle of the uniform.
    angle = second.add_(0.5).mul_(2.0 * math.pi * 2.0**-32)
    drawn = torch.empty((len(keys), blocks, 2, 2), dtype=torch.float64, device=device)
    drawn[..., 0] = torch.cos(angle).mul_(radius).transpose(1, 2)
    drawn[..., 1] = angle.sin_().mul_(radius).transpose(1, 2)
    return drawn.flatten(1)[:, :count]


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
