import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.attacks import fgsm, rescore
from tests.attacks.problems import problem


def test_fgsm_of_a_curved_model_is_the_hand_derived_sign() -> None:
    """Logits (0, s^2) with s = w . x: the gradient of the loss of label 0 is 2 s p1 w."""
    weight, images, _, _ = problem(5)

    def model(x: Tensor) -> Tensor:
        s = x.flatten(1) @ weight
        return torch.stack([torch.zeros_like(s), s.square()], dim=1)

    sign = (images.flatten(1) @ weight).sign().unsqueeze(1) * weight.sign()
    want = (images.flatten(1) + 0.03 * sign).clamp(0, 1).view_as(images)
    torch.testing.assert_close(fgsm(model, images, torch.zeros(5).long(), eps=0.03), want)


def test_fgsm_clips_to_the_pixel_range() -> None:
    _, _, model, _ = problem(3)
    images = torch.rand(3, 2, 3, 5, generator=torch.Generator().manual_seed(1)).round()
    adversarial = fgsm(model, images, model(images).argmax(dim=1), eps=0.1)
    assert float(adversarial.amin()) >= 0
    assert float(adversarial.amax()) <= 1


def test_fgsm_of_one_sample_does_not_depend_on_its_batch() -> None:
    _, images, model, labels = problem(7)
    whole = fgsm(model, images, labels, eps=0.02)
    alone = [
        fgsm(model, images[i : i + 1], labels[i : i + 1], eps=0.02) for i in range(len(images))
    ]
    assert torch.equal(whole, torch.cat(alone))


def test_fgsm_refuses_an_eps_in_grey_levels() -> None:
    _, images, model, labels = problem(1)
    with pytest.raises(ValueError, match=r"\[0, 1\] pixel units"):
        fgsm(model, images, labels, eps=8)


def test_fgsm_agrees_with_torchattacks() -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.Tanh(), nn.Flatten(), nn.Linear(7 * 5 * 3, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    net.eval()
    images = torch.rand(200, 3, 7, 5, generator=generator)
    labels = torch.randint(4, (200,), generator=generator)
    theirs = torchattacks.FGSM(net, eps=8 / 255)(images, labels)
    ours = fgsm(net, images, labels, eps=8 / 255)
    same = (theirs - ours).abs().flatten(1).amax(dim=1) < 1e-6
    assert float(same.float().mean()) >= 0.999


def test_rescore_projects_a_dishonest_attack() -> None:
    _, images, model, _ = problem(3)
    linf = rescore(model, images, images + 0.3, norm="linf", eps=0.1)
    torch.testing.assert_close(linf.linf, torch.full((3,), 0.1))
    assert linf.overshoot == pytest.approx(0.2, rel=1e-4)
    torch.testing.assert_close(linf.logits, model(linf.images))
    mixed = images + torch.where(images > images.median(), -0.3, 0.3)
    both = rescore(model, images, mixed, norm="linf", eps=0.1)
    torch.testing.assert_close((both.images - images).abs(), torch.full_like(images, 0.1))
    l2 = rescore(model, images, images + 0.3, norm="l2", eps=0.5)
    torch.testing.assert_close(l2.l2, torch.full((3,), 0.5))
    assert l2.overshoot == pytest.approx(0.3 * 30**0.5 - 0.5, rel=1e-4)
    out = rescore(model, images.round(), images.round() + 0.05, norm="linf", eps=0.1)
    assert float(out.images.amax()) <= 1
    assert out.overshoot == pytest.approx(0.05, rel=1e-4)


def test_rescore_keeps_an_honest_attack_bit_for_bit() -> None:
    _, images, model, labels = problem(7)
    adversarial = fgsm(model, images, labels, eps=8 / 255)
    kept = rescore(model, images, adversarial, norm="linf", eps=8 / 255 + 1e-6)
    assert kept.overshoot == 0
    assert torch.equal(kept.images, adversarial)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rescore_refuses_broken_pixels(bad: float) -> None:
    _, images, model, _ = problem(1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        rescore(model, images, torch.full_like(images, bad), norm="linf", eps=1.0)


def test_loss_is_summed_so_that_a_large_batch_keeps_tiny_gradients() -> None:
    """A mean over 4,096 samples would push a gradient of 1e-43 to zero, a sum does not."""

    def model(x: Tensor) -> Tensor:
        s = 2e-43 * x.flatten(1).sum(dim=1)
        return torch.stack([s, torch.zeros_like(s)], dim=1)

    images = torch.full((4096, 1, 1, 1), 0.5)
    adversarial = fgsm(model, images, torch.zeros(4096).long(), eps=0.1)
    assert bool((adversarial == 0.5 - 0.1).all())
    mean_images = images.clone().requires_grad_()
    F.cross_entropy(model(mean_images), torch.zeros(4096).long()).backward()  # type: ignore[no-untyped-call]
    assert mean_images.grad is not None
    assert not mean_images.grad.any()
