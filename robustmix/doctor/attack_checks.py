"""Do attacks move what they should, by as much as they should, and nothing else?"""

import torch

from robustmix.attacks.fgsm import fgsm
from robustmix.attacks.harness import rescore, verify
from robustmix.attacks.pgd import pgd
from robustmix.doctor.expectations import (
    Device,
    expect,
    expect_close,
    expect_refusal,
    expect_same,
    refuses,
)
from robustmix.doctor.known_models import (
    convolutional_model,
    inner_images,
    linear_model,
    unit_images,
)
from robustmix.errors import IncompleteError
from robustmix.models.checks import buffers_hash
from robustmix.models.robust_model import RobustModel
from robustmix.rng import sample_keys

EPS = 8 / 255


def fgsm_radius(device: Device) -> str:
    """On a linear model FGSM moves every pixel by exactly eps, and reaches the optimum."""
    model, images = linear_model(device), inner_images(7, device)
    labels = model(images).argmax(dim=1)
    moved = fgsm(model, images, labels, eps=EPS)
    linf = (moved - images).abs().flatten(1).amax(dim=1)
    expect_close(linf.cpu().numpy(), [EPS] * 7, "the linf length of FGSM", within=1e-6)
    margin = model(moved)[:, 0].detach().cpu()
    expect_close(margin.numpy(), _optimum(model, images, labels), "the margin", within=1e-3)
    return f"linf is {float(linf.max()) * 255:.5f}/255 for eps 8/255, in pixels"


def _optimum(model: RobustModel, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    weight = next(model.net.parameters())
    slope = float((weight / model.std).abs().sum())  # of the margin, by pixels
    toward = torch.where(labels == 0, -1.0, 1.0)
    best = model(images)[:, 0] + toward * EPS * slope
    return [float(value) for value in best]


def eps_zero(device: Device) -> str:
    """An attack of radius 0 returns the images bit for bit, black and white pixels included."""
    model, images = linear_model(device), unit_images(5, device)
    labels = model(images).argmax(dim=1)
    expect_same(fgsm(model, images, labels, eps=0.0), images, "FGSM of radius 0")
    scored = rescore(model, images, images.clone(), norm="linf", eps=0.0)
    expect_same(scored.images, images, "the harness at radius 0")
    expect_same(scored.logits, model(images), "the logits at radius 0")
    return "images and predictions are the clean ones, bit for bit"


def pgd_optimum(device: Device) -> str:
    """On a linear model PGD ends in the corner of its ball that no other attack can beat."""
    model, images = linear_model(device), inner_images(3, device)
    labels = model(images).argmax(dim=1)
    keys = sample_keys(0, "doctor", "pgd", 0, ["a", "b", "c"])
    found = pgd.outcome(model, images, labels, eps=EPS, steps=10, keys=keys)
    assert found.last is not None
    margin = model(found.last)[:, 0].detach().cpu()
    expect_close(margin.numpy(), _optimum(model, images, labels), "the margin", within=1e-3)
    return "10 steps reach the optimum from a random start"


def attack_mode(device: Device) -> str:
    """Gradients use running statistics: attacking twice is the same, and leaves no trace."""
    model, images = convolutional_model(device), unit_images(5, device)
    labels, before = torch.arange(5, device=device), buffers_hash(model)
    first = fgsm(model, images, labels, eps=EPS)
    expect_same(fgsm(model, images, labels, eps=EPS), first, "FGSM twice")
    expect_same(fgsm(model, images[:2], labels[:2], eps=EPS), first[:2], "FGSM in a smaller batch")
    expect(buffers_hash(model) == before, "the attack changed the running statistics")
    return "batch norm is not touched"


def attack_ball(device: Device) -> str:
    """The harness refuses what left the ball, and measures what it is given."""
    model, images = linear_model(device), inner_images(3, device)
    labels = model(images).argmax(dim=1)
    outside = images + 2 * EPS
    refused = refuses(IncompleteError, verify, model, images, labels, outside, norm="linf", eps=EPS)
    expect_refusal(refused, "an attack of twice the radius")
    inside = rescore(model, images, outside, norm="linf", eps=EPS)
    expect_close(inside.linf.cpu().numpy(), [EPS] * 3, "the projected length", within=1e-6)
    return "an attack of twice the radius is refused"
