"""AugMix: its operations against Pillow, its chains against a loop, its divergence by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch
from robustmix.data.transforms import normalise
from robustmix.methods import Setup
from robustmix.methods.augmix import (
    OPERATIONS,
    AugMixConfig,
    apply_operation,
    augmix,
    chains_of,
    changed,
    draw_augmix,
    jensen_shannon,
    run_chains,
    strength,
)
from robustmix.methods.mixing import to_levels
from robustmix.methods.registry import build_method
from robustmix.models.registry import build_model

SIDE = 32  # the authors' translations are shares of one side


def pictures(n: int = 4) -> Tensor:
    """Smooth noise, the last picture dark."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 7, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
    levels = (255 * smooth).round().clamp(0, 255).to(torch.uint8)
    levels[-1] //= 6
    return levels


def pillow(picture: Image.Image, name: str, level: float, negated: bool) -> Image.Image:
    """One operation as the authors' code has it, on one square image."""
    side = picture.width
    whole = {
        "posterize": int(level * 4 / 10),
        "rotate": int(level * 30 / 10),
        "solarize": int(level * 256 / 10),
        "translate-x": int(level * (side / 3) / 10),
        "translate-y": int(level * (side / 3) / 10),
    }.get(name, 0)
    sign = -1 if negated else 1
    slope = sign * (level * 0.3 / 10)
    affine = {
        "shear-x": (1, slope, 0, 0, 1, 0),
        "shear-y": (1, 0, 0, slope, 1, 0),
        "translate-x": (1, 0, sign * whole, 0, 1, 0),
        "translate-y": (1, 0, 0, 0, 1, sign * whole),
    }
    bilinear = Image.Resampling.BILINEAR
    if name in affine:
        return picture.transform(
            (side, side), Image.Transform.AFFINE, affine[name], resample=bilinear
        )
    if name == "rotate":
        return picture.rotate(sign * whole, resample=bilinear)
    if name == "posterize":
        return ImageOps.posterize(picture, 4 - whole)
    if name == "solarize":
        return ImageOps.solarize(picture, 256 - whole)
    return ImageOps.equalize(picture) if name == "equalize" else ImageOps.autocontrast(picture)


def picture_of(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def levels_of(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillow_s(name: str) -> None:
    images = pictures()
    for level in (0.1, 1.3, 2.9, 5.0, 7.7, 9.99):
        for negated in (False, True):
            n = len(images)
            strengths = strength(name, np.full(n, level), np.full(n, negated), SIDE)
            got = apply_operation(images, name, strengths)
            for image, mine in zip(images, got, strict=True):
                want = pillow(picture_of(image), name, level, negated)
                assert torch.equal(mine, levels_of(want)), (level, negated)


def test_turns_by_whole_degrees_are_pillow_s() -> None:
    """Of 30 degrees too, where sources lie on the border of two pixels but for rounding."""
    images = pictures(2)
    for degrees in range(-30, 31):
        got = apply_operation(images, "rotate", torch.full((2,), degrees, dtype=torch.float64))
        for image, mine in zip(images, got, strict=True):
            want = picture_of(image).rotate(degrees, resample=Image.Resampling.BILINEAR)
            assert torch.equal(mine, levels_of(want)), degrees


def test_strengths_round_as_the_authors_do() -> None:
    levels = np.random.default_rng(0).uniform(0.1, 10, 200)
    got = strength("shear-x", levels, np.zeros(200, dtype=bool), SIDE).numpy()
    assert got.tolist() == [level * 0.3 / 10 for level in levels.tolist()]
    assert got.tolist() != (0.3 * (levels / 10)).tolist()


@pytest.mark.parametrize(("side", "severity"), [(32, 3.0), (33, 10.0), (48, 1.0), (64, 5.0)])
def test_chains_are_pillow_s_to_the_bit(side: int, severity: float) -> None:
    """Half of the pictures are noise, half are smooth; no level is off after any chain."""
    rng = np.random.default_rng(side)
    levels = torch.from_numpy(rng.integers(0, 256, (12, 3, side, side)).astype(np.uint8))
    coarse = levels[::2, :, :7, :5].float()
    levels[::2] = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear").byte()
    draws = draw_augmix(12, AugMixConfig(severity=severity), rng)
    got = run_chains(levels.repeat_interleave(3, dim=0), draws)
    for chain, (image, w) in enumerate(np.ndindex(12, 3)):
        picture = picture_of(levels[image])
        for step in range(draws.depth[image, w]):
            name = OPERATIONS[draws.operation[image, w, step]]
            level, negated = draws.level[image, w, step], draws.negated[image, w, step]
            picture = pillow(picture, name, float(level), bool(negated))
        assert torch.equal(got[chain], levels_of(picture)), (image, w)


def test_chains_do_as_many_operations_as_drawn_and_blend_as_drawn() -> None:
    data = load_dataset("digits", "train")
    levels = pictures(3)
    images = normalise(levels, data.mean, data.std)
    draws = draw_augmix(3, AugMixConfig(), np.random.default_rng(4))
    got = augmix(images, levels, draws, lambda x: normalise(x, data.mean, data.std))
    for i in range(3):
        chains = torch.zeros(3, SIDE, SIDE)
        for w in range(3):
            view = levels[i]
            for step in range(draws.depth[i, w]):
                name = OPERATIONS[draws.operation[i, w, step]]
                strengths = strength(
                    name, draws.level[i, w, step, None], draws.negated[i, w, step, None], SIDE
                )
                view = apply_operation(view[None], name, strengths)[0]
            chains += draws.weights[i, w] * normalise(view[None], data.mean, data.std)[0]
        m = draws.blend[i]
        torch.testing.assert_close(got[i], ((1 - m) * images[i] + m * chains).float())


def test_an_image_s_chains_do_not_depend_on_its_batch() -> None:
    levels = pictures(4)
    draws = draw_augmix(4, AugMixConfig(), np.random.default_rng(1))
    whole = run_chains(levels.repeat_interleave(3, dim=0), draws)
    last = draws._replace(**{k: v[3:] for k, v in draws._asdict().items()})
    assert torch.equal(run_chains(levels[3:].repeat_interleave(3, dim=0), last), whole[9:])


def test_a_trace_changes_all_images_and_each_keeps_its_own() -> None:
    """To the bit, chains that have ended included."""
    config = AugMixConfig(severity=10.0)
    draws = draw_augmix(8, config, np.random.default_rng(3))
    levels = pictures().repeat_interleave(6, dim=0)
    want = run_chains(levels, draws)
    for step in chains_of([draws], (SIDE, SIDE)).traced:
        before, levels = levels, changed(levels, step)
        assert torch.equal(levels[step.operation < 0], before[step.operation < 0])
    assert torch.equal(levels, want)


def test_draws_are_as_published() -> None:
    draws = draw_augmix(400, AugMixConfig(), np.random.default_rng(0))
    assert set(np.unique(draws.operation)) == set(range(9))
    assert set(np.unique(draws.depth)) == {1, 2, 3}
    assert 0.1 <= draws.level.min() < 0.12
    assert 2.98 < draws.level.max() <= 3
    np.testing.assert_allclose(draws.weights.sum(axis=1), 1)
    assert abs(draws.blend.mean() - 0.5) < 5 * (1 / 12 / 400) ** 0.5
    assert abs(draws.negated.mean() - 0.5) < 0.05
    fixed = draw_augmix(5, AugMixConfig(depth=2, width=4), np.random.default_rng(0))
    assert fixed.depth.tolist() == [[2] * 4] * 5


def test_the_divergence_by_hand() -> None:
    # p = (1/2, 1/2), (3/4, 1/4), (1/4, 3/4); M = (1/2, 1/2).
    shares = [
        torch.tensor([[0.5, 0.5]]),
        torch.tensor([[0.75, 0.25]]),
        torch.tensor([[0.25, 0.75]]),
    ]
    one = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert float(jensen_shannon([p.log() for p in shares])) == pytest.approx(2 * one / 3, rel=1e-5)
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert float(jensen_shannon([logits] * 3)) == pytest.approx(0, abs=1e-6)


def test_a_step_is_the_clean_loss_and_twelve_divergences() -> None:
    data = load_dataset("digits", "train")
    images, labels = normalise(pictures(), data.mean, data.std), torch.tensor([0, 1, 2, 3])
    batch = Batch(images, labels, torch.arange(4))
    weights = torch.Generator().manual_seed(0)
    shape = (3, SIDE, SIDE)
    network: Any = build_model("resnet8", num_classes=10, input_size=shape, generator=weights)
    torch.nn.init.normal_(network.fc.weight, generator=weights)  # lest all predictions be alike

    def method(options: dict[str, object]) -> Any:
        setup = Setup(rng=np.random.default_rng(2), mean=data.mean, std=data.std)
        return build_method("augmix", network, options, setup)

    got = method({}).training_step(batch)
    other = method({})
    views = [images, other.version(images), other.version(images)]
    logits = network(torch.cat(views)).chunk(3)
    clean = torch.nn.functional.cross_entropy(logits[0], labels)
    want = clean + 12 * jensen_shannon(logits)
    assert float(jensen_shannon(logits).detach()) > 0.01
    assert float(got.loss.detach()) == pytest.approx(float(want.detach()), rel=1e-5)
    assert float(got.logs["loss_clean"]) == pytest.approx(float(clean.detach()), rel=1e-5)
    one = method({"jsd_weight": 0.0}).training_step(batch)
    alone = torch.nn.functional.cross_entropy(network(views[1]), labels)
    assert float(one.loss.detach()) == pytest.approx(float(alone.detach()), rel=1e-5)


def test_grey_levels_come_back_from_normalised_images() -> None:
    data = load_dataset("digits", "train")
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(
        to_levels(normalise(levels, data.mean, data.std), data.mean, data.std), levels
    )
    for mean, std in (((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),):
        assert torch.equal(to_levels(normalise(levels, mean, std), mean, std), levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width >= 1"),
        ({"depth": 4}, "depth in 0 to 3"),
        ({"severity": 11.0}, "severity in"),
        ({"alpha": 0.0}, "alpha > 0"),
        ({"jsd_weight": -1.0}, "jsd_weight >= 0"),
    ],
)
def test_impossible_options(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugMixConfig(**values)
