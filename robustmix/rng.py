"""Per-sample randomness: counter-based, so no result depends on batch, order, device or shard.

Every sample gets a 64-bit key from (run seed, suite, condition, trial, sample id); the key selects
an independent stream of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"). The generator is integer arithmetic on tensors, hence equal bit for bit on any device.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustmix.later import Tensor, torch

GENERATOR = "philox4x32-10/1"
"""Name and version of the generator, recorded in every report."""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


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
    blocks = -(-count // 4)
    n, device = keys.shape[0], keys.device
    k0 = (keys & _MASK).unsqueeze(1)
    k1 = ((keys >> 32) & _MASK).unsqueeze(1)
    c0 = torch.arange(blocks, device=device).expand(n, blocks)
    c1 = torch.zeros((), dtype=torch.int64, device=device).expand(n, blocks)
    c2 = torch.full((), counter_high, dtype=torch.int64, device=device).expand(n, blocks)
    c3 = c1
    for _ in range(10):
        # The int64 product wraps modulo 2^64, which keeps all 64 bits of an unsigned one.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return torch.stack([c0, c1, c2, c3], dim=2).reshape(n, blocks * 4)[:, :count]


def uniform(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return uniforms in the open interval (0, 1), float64 (N, count), 32 bits each."""
    return (philox(keys, count, counter_high=counter_high).double() + 0.5) * 2.0**-32


def normal(keys: Tensor, count: int, *, counter_high: int = 0) -> Tensor:
    """Return standard normals, float64 (N, count), by the Box-Muller transform."""
    u = uniform(keys, 2 * (-(-count // 2)), counter_high=counter_high)
    radius = torch.sqrt(-2.0 * torch.log(u[:, 0::2]))
    angle = 2.0 * math.pi * u[:, 1::2]
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=2)
    return pairs.flatten(1)[:, :count]


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
