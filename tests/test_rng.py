import hashlib

import numpy as np
import pytest
import torch

from robustmix.philox import HALF, LOW, pairs, words_on_device
from robustmix.rng import FEW, normal, permutations, philox, sample_keys, uniform


def signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


@pytest.mark.parametrize(
    ("counter_high", "key", "words"),
    [
        # Known answer of the Random123 distribution for counter and key zero.
        (0, 0, ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]),
    ],
)
def test_philox_known_answer(counter_high: int, key: int, words: list[str]) -> None:
    got = philox(torch.tensor([signed(key)]), 4, counter_high=counter_high)[0]
    assert [f"{int(word):08x}" for word in got] == words


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 on Python integers, as in the paper's figure."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_plain_philox_known_answer() -> None:
    """The oracle itself, on the Random123 vector whose counter and key are digits of pi."""
    got = plain_philox([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0])
    assert [f"{word:08x}" for word in got] == ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]


def test_philox_equals_integer_arithmetic() -> None:
    keys = [0xFFFFFFFFFFFFFFFF, 0x299F31D0A4093822, 0x8000000000000001]
    got = philox(torch.tensor([signed(key) for key in keys]), 11, counter_high=0x13198A2E)
    for row, key in zip(got, keys, strict=True):
        want = [
            word
            for block in range(3)
            for word in plain_philox([block, 0, 0x13198A2E, 0], [key & 0xFFFFFFFF, key >> 32])
        ]
        assert row.tolist() == want[:11]


@pytest.mark.parametrize(("n", "blocks", "counter_high"), [(1, 1, 0), (3, 7, 5), (2, 300, 2**31)])
def test_pairs_of_words_are_the_words_of_a_device(n: int, blocks: int, counter_high: int) -> None:
    keys = sample_keys(0, "pairs", "", 0, [str(i) for i in range(n)])
    first, second = pairs(keys.numpy(), blocks, counter_high)
    got = [first >> HALF, first & LOW, second >> HALF, second & LOW]
    want = words_on_device(keys, blocks, counter_high)
    for mine, theirs in zip(got, want, strict=True):
        assert np.array_equal(mine.astype(np.int64), theirs.numpy())


def test_uniforms_and_normals_are_made_of_the_words() -> None:
    keys = sample_keys(0, "formula", "", 0, ["a", "b"])
    u = (philox(keys, 12, counter_high=3).numpy() + 0.5) / 2**32
    assert np.array_equal(uniform(keys, 11, counter_high=3).numpy(), u[:, :11])
    radius, angle = np.sqrt(-2 * np.log(u[:, 0::2])), 2 * np.pi * u[:, 1::2]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(2, -1)
    np.testing.assert_allclose(normal(keys, 11, counter_high=3).numpy(), both[:, :11], rtol=1e-13)


def test_sample_keys_are_the_documented_hash() -> None:
    want = hashlib.sha256(b"7\x1fcorruption\x1ffog/3\x1f2\x1fcifar100/test/13").digest()[:8]
    (got,) = sample_keys(7, "corruption", "fog/3", 2, ["cifar100/test/13"]).tolist()
    assert got == int.from_bytes(want, "big", signed=True)


def test_streams_do_not_depend_on_the_batch() -> None:
    ids = [f"d/test/{i}" for i in range(7)]
    whole = normal(sample_keys(0, "s", "c", 0, ids), 5)
    alone = torch.cat([normal(sample_keys(0, "s", "c", 0, [i]), 5) for i in ids])
    assert torch.equal(whole, alone)


def test_normal_and_uniform_have_their_moments() -> None:
    keys = sample_keys(0, "moments", "", 0, [str(i) for i in range(200)])
    n = 200 * 1001
    z, u = normal(keys, 1001).flatten(), uniform(keys, 1001).flatten()
    # Five standard errors of each sample moment.
    assert abs(float(z.mean())) < 5 / n**0.5
    assert abs(float(z.pow(2).mean()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float(z.pow(4).mean()) - 3) < 5 * (96 / n) ** 0.5
    assert abs(float(u.mean()) - 0.5) < 5 / (12 * n) ** 0.5
    counts = np.histogram(u.numpy(), bins=64, range=(0, 1))[0]
    assert float(((counts - n / 64) ** 2 / (n / 64)).sum()) < 63 + 5 * (2 * 63) ** 0.5


def test_permutations_are_permutations_and_uniform() -> None:
    perms = permutations(sample_keys(0, "p", "", 0, [str(i) for i in range(6000)]), 3)
    assert torch.equal(perms.sort(dim=1).values, torch.arange(3).expand(6000, 3))
    counts = torch.bincount(perms[:, 0] * 3 + perms[:, 1], minlength=9)
    kinds = counts[counts > 0]
    assert len(kinds) == 6
    assert float(((kinds - 1000.0) ** 2 / 1000).sum()) < 5 + 5 * 10**0.5


@pytest.mark.parametrize("counter_high", [0, 1, 2**32 - 1])
def test_a_few_uniforms_are_the_first_of_many(counter_high: int) -> None:
    """The first ones are made of Python's integers, the others by NumPy."""
    keys = sample_keys(0, "few", "", 0, ["a", "b"])
    many = uniform(keys, 4 * FEW, counter_high=counter_high)
    for count in (1, 5, 2 * FEW):
        assert torch.equal(uniform(keys, count, counter_high=counter_high), many[:, :count])
        assert torch.equal(uniform(keys[1:], count, counter_high=counter_high), many[1:, :count])
