"""The generator against published facts, on the real CIFAR-100 test images."""

import hashlib
import io

import numpy as np
import pytest
import torch

from robustmix.corruptions import CORRUPTIONS, NAMES, SEVERITIES, corrupt
from tests.corruptions.cifar import cifar100_test, needs_cifar100

# Mean absolute change of the first 200 test images at severities 1 to 5, and its tolerance: the
# rounding of the table for deterministic corruptions, else four deviations over seeds and no
# tighter than 1 %. The JPEG row was made with libjpeg-turbo, from which ours is known to differ by
# 0.10; the released file decides (below).
MEAN_CHANGE = {
    "gaussian_noise": ((7.90, 11.74, 15.51, 17.37, 19.19), 0.08),
    "shot_noise": ((5.82, 8.17, 12.78, 14.69, 17.85), 0.04),
    "impulse_noise": ((1.26, 2.56, 3.80, 6.36, 8.90), 0.28),
    "defocus_blur": ((1.42, 3.42, 5.16, 6.73, 9.59), 0.05),
    "glass_blur": ((11.34, 11.46, 11.31, 18.40, 17.70), 0.28),
    "motion_blur": ((7.39, 10.96, 13.77, 13.80, 16.02), 0.48),
    "zoom_blur": ((8.98, 10.77, 12.92, 15.16, 17.30), 0.05),
    "snow": ((10.42, 23.04, 24.65, 36.11, 49.75), 2.0),
    "frost": ((29.69, 44.30, 47.75, 44.64, 43.39), 4.8),  # made with the photographs
    "fog": ((11.19, 22.20, 28.90, 33.51, 40.75), 2.8),
    "brightness": ((9.55, 19.27, 28.51, 37.25, 52.95), 0.05),
    "contrast": ((11.15, 22.31, 26.77, 31.23, 37.93), 0.05),
    "elastic_transform": ((22.29, 20.51, 18.67, 17.05, 13.94), 1.6),
    "pixelate": ((1.83, 3.46, 4.29, 6.31, 8.88), 0.05),
    "jpeg_compression": ((5.64, 6.95, 7.39, 7.86, 8.50), 0.11),
    "speckle_noise": ((5.59, 9.16, 10.92, 14.38, 17.76), 0.08),
    "gaussian_blur": ((1.36, 5.02, 6.42, 7.61, 9.68), 0.05),
    "spatter": ((1.00, 2.70, 6.64, 3.09, 5.14), 0.32),
    "saturate": ((13.51, 17.43, 8.61, 20.57, 29.30), 0.05),
}

# Mean of the signed change and deviation of the output at severity 5, and their tolerance. Rounding
# instead of truncating would raise every mean by half a level.
SHIFT_AND_DEVIATION = {
    "brightness": (52.95, 63.8, 0.1),
    "contrast": (-0.50, 39.7, 0.1),
    "gaussian_noise": (-0.65, 70.3, 0.1),
    "snow": (49.75, 64.0, 2.0),
    "frost": (41.3, 53.0, 4.0),  # made with the photographs
    "fog": (-0.15, 40.3, 1.8),
    "spatter": (-4.81, 68.0, 0.4),
}

# Of the released CIFAR-100-C files.
OFFICIAL_MD5 = {
    "contrast": "322bb385f1d05154ee197ca16535f71e",
    "brightness": "f22d7195aecd6abb541e27fca230c171",
    "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
    "pixelate": "96c00c60f144539e14cffb02ddbd0640",
    "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
    "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
    "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
}


def test_every_corruption_has_a_row() -> None:
    assert set(MEAN_CHANGE) == set(NAMES)
    assert set(OFFICIAL_MD5) == {n for n, c in CORRUPTIONS.items() if c.deterministic}


@needs_cifar100
def test_the_images_are_the_official_ones() -> None:
    first = cifar100_test(torch.arange(200)).double()
    assert float(first.mean()) == pytest.approx(121.999, abs=5e-4)
    assert float(first.std(correction=0)) == pytest.approx(67.939, abs=5e-4)


@needs_cifar100
@pytest.mark.parametrize("name", MEAN_CHANGE)
def test_mean_change(name: str) -> None:
    images = cifar100_test(torch.arange(200))
    expected, tolerance = MEAN_CHANGE[name]
    for severity, value in zip(SEVERITIES, expected, strict=True):
        out = corrupt(images, name, severity, seed=0)
        change = float((out.double() - images.double()).abs().mean())
        limit = tolerance if CORRUPTIONS[name].deterministic else max(tolerance, 0.01 * value)
        assert change == pytest.approx(value, abs=limit), f"severity {severity}"


@needs_cifar100
@pytest.mark.parametrize("name", SHIFT_AND_DEVIATION)
def test_signed_shift_and_deviation(name: str) -> None:
    images = cifar100_test(torch.arange(200)).double()
    out = corrupt(images.to(torch.uint8), name, 5, seed=0).double()
    shift, deviation, tolerance = SHIFT_AND_DEVIATION[name]
    assert float((out - images).mean()) == pytest.approx(shift, abs=tolerance)
    assert float(out.std()) == pytest.approx(deviation, abs=tolerance)


@needs_cifar100
@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL_MD5)
def test_the_released_file_byte_for_byte(name: str) -> None:
    images = cifar100_test()
    blocks = [corrupt(images, name, severity, seed=0) for severity in SEVERITIES]
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(torch.cat(blocks).permute(0, 2, 3, 1).numpy()))
    assert len(file.getvalue()) == 153_600_128
    assert hashlib.md5(file.getbuffer()).hexdigest() == OFFICIAL_MD5[name]
