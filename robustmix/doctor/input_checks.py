"""Are images, masks and random draws what they are said to be?"""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robustmix.corruptions import corrupt
from robustmix.corruptions.jpeg_compression import jpeg_round_trip
from robustmix.corruptions.names import NAMES
from robustmix.data.decode import open_rgb
from robustmix.doctor.expectations import Device, expect, expect_close, expect_same
from robustmix.doctor.known_models import MEAN, STD, convolutional_model, image_set, pixels
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.patches import filling, mask_count, nested_masks
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.rng import permutations, philox, sample_keys, uniform

PHILOX_ZERO = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
"""Known answer of the Random123 distribution for key and counter zero."""

KEY = 1941311502032203221
"""First eight bytes of SHA-256 over ``0 1F doctor 1F fog/3 1F 0 1F a``."""

MASK_COUNTS = {
    (14, 14): (20, 39, 59, 78, 98, 118, 137, 157, 176),
    (8, 8): (6, 13, 19, 26, 32, 38, 45, 51, 58),
    (4, 4): (2, 3, 5, 6, 8, 10, 11, 13, 14),
}


def random_numbers(device: Device) -> str:
    """The generator gives the published words, on this device too."""
    words = philox(torch.zeros(1, dtype=torch.int64, device=device), 4)[0].cpu()
    expect(tuple(words.tolist()) == PHILOX_ZERO, f"Philox of zero is {words.tolist()}")
    key = sample_keys(0, "doctor", "fog/3", 0, ["a"])
    expect(int(key[0]) == KEY, f"the key of a sample is {int(key[0])}, expected {KEY}")
    keys = sample_keys(0, "doctor", "", 0, [str(i) for i in range(5)])
    expect_same(uniform(keys.to(device), 9).cpu(), uniform(keys, 9), f"uniforms on {device}")
    expect_same(
        permutations(keys.to(device), 64).cpu(), permutations(keys, 64), f"permutations on {device}"
    )
    return "philox4x32-10 gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8"


def draws_by_key(device: Device) -> str:
    """A corrupted image depends on its id, not on its batch, its place or the device's batch."""
    images, ids = pixels(3, (3, 32, 32)).to(device), ["a", "b", "c"]
    for name in NAMES:
        whole = corrupt(images, name, 3, seed=0, sample_ids=ids)
        alone = corrupt(images[2:], name, 3, seed=0, sample_ids=ids[2:])
        expect_same(alone, whole[2:], f"{name} alone and in a batch")
    noise = corrupt(images[:1].repeat(2, 1, 1, 1), "gaussian_noise", 3, seed=0, sample_ids=ids[:2])
    expect(not torch.equal(noise[0], noise[1]), "two samples get the same noise")
    return f"{len(NAMES)} corruptions are the same alone and in a batch"


def uint8_wrap(device: Device) -> str:
    """White stays white when it is brightened: values are clipped before they are cast."""
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8, device=device)
    for severity in (1, 5):
        bright = corrupt(white, "brightness", severity, seed=0)
        expect(int(bright.min()) == 255, f"white became {int(bright.min())} when brightened")
    return "white brightened is white"


def jpeg(device: Device) -> str:
    """Grey pictures pass our JPEG arithmetic as they pass Pillow's codec, value for value."""
    grey = pixels(1, (3, 32, 48))[0, 0]
    for quality in (25, 80):
        file = io.BytesIO()
        Image.fromarray(grey.numpy()).save(file, "JPEG", quality=quality)
        codec = torch.from_numpy(np.array(Image.open(file)))
        ours = jpeg_round_trip(grey.expand(1, 3, 32, 48).to(device), quality)[0, 0].cpu()
        expect_same(ours, codec, f"JPEG of quality {quality}")
    return "equal to Pillow's codec at quality 25 and 80"


def image_files(device: Device) -> str:
    """PNG is read without loss, other colour modes become RGB, EXIF rotation is ignored."""
    colour = pixels(1, (3, 5, 7))[0].permute(1, 2, 0).numpy()
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder:
        path = Path(folder) / "a.png"
        Image.fromarray(colour).save(path)
        expect(bool((np.array(open_rgb(path)) == colour).all()), "a PNG is read with loss")
        for mode in ("L", "RGBA", "P"):
            Image.fromarray(colour).convert(mode).save(path)
            expect(open_rgb(path).mode == "RGB", f"an image of mode {mode} is not made RGB")
        turned = Image.fromarray(colour)
        exif = turned.getexif()
        exif[0x0112] = 6  # rotate by 90 degrees
        turned.save(Path(folder) / "b.jpg", exif=exif)
        size = open_rgb(Path(folder) / "b.jpg").size
        expect(size == (7, 5), f"an image of 7x5 was turned to {size[0]}x{size[1]}")
    return "RGB from PNG, grey, RGBA and palette; EXIF rotation ignored"


def mask_counts(device: Device) -> str:
    """Ratios hide as many patches as the tables say: half up, in exact fractions."""
    for grid, known in MASK_COUNTS.items():
        patches = grid[0] * grid[1]
        found = tuple(mask_count(Fraction(k, 10), patches) for k in range(1, 10))
        expect(found == known, f"a grid of {grid[0]}x{grid[1]} hides {found}")
    halves = tuple(mask_count(Fraction(k, 128), 64) for k in (1, 3, 5, 7))
    expect(halves == (1, 2, 3, 4), f"0.5, 1.5, 2.5 and 3.5 patches are rounded to {halves}")
    keys = sample_keys(0, "doctor", "", 0, ["a", "b"])
    masks = nested_masks(keys, (6, 19), (32, 32), (8, 8))
    hidden = masks.flatten(2).sum(dim=2) / 16
    expect_close(hidden.numpy(), [[6, 6], [19, 19]], "the number of hidden patches", within=0)
    expect(bool((masks[1] | ~masks[0]).all()), "a larger mask does not hold the smaller one")
    return "8x8, 4x4 and 14x14 grids hide what the tables say"


def mask_fill(device: Device) -> str:
    """The mean colour is zero after normalisation, and black is black before it."""
    images = pixels(2, (3, 8, 8)).float() / 255
    keys = sample_keys(0, "doctor", "", 0, ["a", "b"])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    for fill, known in (("mean", torch.zeros(3)), ("black", (-mean / std).flatten())):
        colour = filling(images, fill, mean=MEAN, std=STD, patch=(4, 4), keys=keys)  # type: ignore[arg-type]
        normalised = ((colour - mean) / std).expand(2, 3, 8, 8)[0, :, 0, 0]
        expect_close(normalised.numpy(), known.numpy(), f"the fill '{fill}'", within=1e-6)
    return "the mean fill is 0 after normalisation"


def batches(device: Device) -> str:
    """Batches of 10 and of 7 give the same numbers, and an evaluation disturbs no generator."""
    data, found = image_set(), []
    state, numpy_state = torch.get_rng_state(), _numpy_state()
    suites = ("clean", Occlusion(grid=(4, 4), trials=2))
    for batch_size in (10, 7):
        model = convolutional_model(device, (3, 16, 16))
        report = evaluate(model, data, suites, batch_size=batch_size, device=str(device))
        expect(report.content.run.status == "success", "a small evaluation failed")
        found.append(report)
    first, second = (report.metric("clean.top1") for report in found)
    expect(first.n == len(data), f"{first.n} of {len(data)} samples were scored")
    correct = [
        int(report.samples.tables["clean"].at("clean")["correct"].sum())
        for report in found
        if report.samples is not None
    ]
    expect_close([first.value or 0], [correct[0] / len(data)], "top-1", within=1e-12)
    expect_close([second.value or 0], [first.value or 0], "top-1 in batches of 7", within=0)
    ours = [report.content.suites["occlusion"].metrics for report in found]
    for name, metric in ours[0].items():
        if metric.value is not None:
            expect_close(ours[1][name].value or 0, metric.value, f"occlusion {name}", within=1e-6)
    expect_same(torch.get_rng_state(), state, "torch's global random state")
    expect(_numpy_state() == numpy_state, "numpy's global random state was moved")
    return "batches of 10 and 7 give the same numbers; global random states unmoved"


def _numpy_state() -> bytes:
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, not drawn from
    assert isinstance(state, dict)
    return bytes(state["state"]["key"].tobytes()) + str(state["state"]["pos"]).encode()
