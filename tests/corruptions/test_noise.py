"""The production draws against the distributions that they must have."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from robustmix.corruptions import CORRUPTIONS, SEVERITIES, Profile, corrupt
from robustmix.corruptions.impulse_noise import AMOUNT, ImpulseNoise
from robustmix.corruptions.impulse_noise import apply as apply_impulse
from robustmix.corruptions.impulse_noise import draw as draw_impulse
from robustmix.corruptions.shot_noise import PHOTONS, ShotNoise, cumulative_counts
from robustmix.corruptions.shot_noise import apply as apply_shot
from robustmix.corruptions.shot_noise import draw as draw_shot
from robustmix.rng import sample_keys, uniform


def keys(n: int) -> Tensor:
    return sample_keys(0, "corruption", "test", 0, [str(i) for i in range(n)])


def flat(level: int, n: int = 40) -> Tensor:
    return torch.full((n, 3, 32, 32), level, dtype=torch.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    ("name", "level", "of_value"), [("gaussian_noise", 128, 1.0), ("speckle_noise", 102, 102 / 255)]
)
def test_normal_noise_on_a_flat_image(
    name: str, level: int, of_value: float, severity: int
) -> None:
    """Far from the ends the output is level + 255 sigma g, cut down half a level on average."""
    sigma = CORRUPTIONS[name].constants["cifar"][severity - 1]
    assert isinstance(sigma, float)
    deviation = 255 * sigma * of_value
    out = corrupt(flat(level), name, severity, seed=0).double().numpy()
    error = deviation / np.sqrt(out.size)
    assert out.mean() == pytest.approx(level - 0.5, abs=4 * error)
    # The truncation adds the variance of a uniform, 1/12; the clipped tails take away very little.
    assert out.std() == pytest.approx(np.sqrt(deviation**2 + 1 / 12), abs=4 * error)


def test_channels_and_pixels_are_independent() -> None:
    noise = (corrupt(flat(128), "gaussian_noise", 1, seed=0).double() - 127.5).numpy()
    for a, b in [
        (noise[:, 0], noise[:, 1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[..., 1:, :], noise[..., :-1, :]),
        (noise[1:], noise[:-1]),
    ]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)


@pytest.mark.parametrize("photons", [3, 75, 500])
def test_cumulative_counts_against_scipy(photons: int) -> None:
    levels, j = np.arange(256)[:, None], np.arange(photons)
    expected = scipy.stats.poisson.cdf(j, levels / 255 * photons)
    np.testing.assert_allclose(cumulative_counts(photons).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("profile", "severity"), [("cifar", 1), ("cifar", 5), ("imagenet", 5)])
def test_search_counts_the_entries_below(profile: Profile, severity: int) -> None:
    """Second implementation: compare every uniform with its whole table."""
    every_level = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    images = every_level.expand(5, 3, 16, 16)
    photons = PHOTONS[profile][severity - 1]
    u = uniform(keys(5), 768).reshape(images.shape)
    expected = (cumulative_counts(photons)[images.long()] < u.unsqueeze(-1)).sum(-1)
    assert torch.equal(draw_shot(keys(5), images, severity, profile).counts.long(), expected)


@pytest.mark.parametrize(("severity", "level"), [(1, 1), (1, 128), (3, 60), (5, 128)])
def test_counts_are_poisson(severity: int, level: int) -> None:
    """Chi-square goodness of fit over the bins that expect 10 or more."""
    photons = PHOTONS["cifar"][severity - 1]
    counts = draw_shot(keys(40), flat(level), severity, "cifar").counts.numpy().ravel()
    pmf = scipy.stats.poisson.pmf(np.arange(photons), level / 255 * photons)
    wanted = np.flatnonzero(pmf * counts.size >= 10)
    observed = np.bincount(counts, minlength=photons)[wanted]
    expected = pmf[wanted] * counts.size
    rest = counts.size - expected.sum()
    chi2 = ((observed - expected) ** 2 / expected).sum()
    chi2 += (counts.size - observed.sum() - rest) ** 2 / max(rest, 1.0)
    assert scipy.stats.chi2.sf(chi2, len(wanted)) > 1e-3


def test_counts_at_the_ends() -> None:
    assert int(draw_shot(keys(40), flat(0), 5, "cifar").counts.max()) == 0
    white = draw_shot(keys(40), flat(255), 5, "cifar").counts
    assert int(white.max()) == 50
    # P(Poisson(50) >= 50) = 0.5188
    assert float((white == 50).double().mean()) == pytest.approx(0.5188, abs=4 * 0.5 / 350)


def test_shot_noise_by_hand() -> None:
    """At severity 5 white is 50 photons: 0, 25, 50 and 60 of them, by hand."""
    counts = torch.tensor([0, 25, 50, 60]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    out = apply_shot(flat(0, 1)[..., :2, :2], ShotNoise(counts), 5, "cifar")
    assert out[0, 0].flatten().tolist() == [0, 127, 255, 255]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_rates(severity: int) -> None:
    amount = AMOUNT["cifar"][severity - 1]
    draws = draw_impulse(keys(40), flat(128), severity, "cifar")
    n = draws.flip.numel()
    assert float(draws.flip.double().mean()) == pytest.approx(amount, abs=4 * (amount / n) ** 0.5)
    salt = draws.salt[draws.flip].double()
    assert float(salt.mean()) == pytest.approx(0.5, abs=4 * 0.5 / len(salt) ** 0.5)


def test_impulse_by_hand() -> None:
    flip = torch.tensor([True, True, False, False]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    salt = torch.tensor([True, False, True, False]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    out = apply_impulse(flat(9, 1)[..., :2, :2], ImpulseNoise(flip, salt), 1, "cifar")
    assert out[0, 2].flatten().tolist() == [255, 0, 9, 9]
