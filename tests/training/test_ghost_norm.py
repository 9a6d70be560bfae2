"""Batch norm over groups of a batch, against copies of the network that each see a part."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.errors import UsageError
from robustmix.models.registry import build_model
from robustmix.training.ghost_norm import set_norm_groups

SIZE = (3, 32, 32)


def network(arch: str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    net = build_model(arch, num_classes=5, input_size=SIZE, generator=generator)
    for i, (name, buffer) in enumerate(net.named_buffers()):
        if name.endswith(("running_mean", "running_var")):
            buffer.fill_(0.2 + i / 97)
    return net.double().train()


def batch(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    images = torch.randn(n, *SIZE, generator=generator, dtype=torch.float64)
    return images, torch.randint(5, (n,), generator=generator)


def gradient(net: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    net.zero_grad()
    logits = net(images)
    torch.autograd.backward(F.cross_entropy(logits, labels))
    return [logits.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


# A network of plain norms, and one of timm's, which end in the activation.
@pytest.mark.parametrize("arch", ["resnet8", "timm:test_efficientnet"])
@pytest.mark.parametrize(("n", "groups"), [(6, 3), (8, 2), (7, 3)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_groups_are_copies_that_each_see_a_part(
    arch: str, n: int, groups: int, channels_last: bool
) -> None:
    grouped, (images, labels) = network(arch), batch(n)
    copies = [copy.deepcopy(grouped) for _ in range(groups)]
    set_norm_groups(grouped, groups)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the second pass starts from statistics that differ between the copies
        logits, *grads = gradient(grouped, images, labels)
        parts = [
            gradient(net, images[j::groups], labels[j::groups]) for j, net in enumerate(copies)
        ]
        for j, part in enumerate(parts):
            torch.testing.assert_close(logits[j::groups], part[0], rtol=0, atol=1e-10)
        shares = [len(labels[j::groups]) / n for j in range(groups)]
        for i, grad in enumerate(grads, 1):
            want = torch.stack([s * part[i] for s, part in zip(shares, parts, strict=True)]).sum(0)
            torch.testing.assert_close(grad, want, rtol=1e-10, atol=1e-10)
    for name, buffer in grouped.named_buffers():
        wanted = torch.stack([dict(net.named_buffers())[name].double() for net in copies])
        torch.testing.assert_close(buffer.double(), wanted.mean(dim=0), rtol=0, atol=1e-10)


def test_evaluation_and_single_images_are_as_ever() -> None:
    plain = network("resnet8")
    grouped = copy.deepcopy(plain)
    set_norm_groups(grouped, 2)
    images, _ = batch(3)  # too few for two groups of two
    assert torch.equal(grouped(images), plain(images))
    assert torch.equal(grouped.eval()(images), plain.eval()(images))
    kept = copy.deepcopy(grouped.state_dict())
    copy.deepcopy(grouped).train()(batch(8)[0])  # a copy moves its own statistics
    assert all(torch.equal(kept[name], value) for name, value in grouped.state_dict().items())


def test_a_network_without_batch_norm_refuses_it() -> None:
    net = build_model("timm:test_vit", num_classes=5, input_size=SIZE)
    with pytest.raises(UsageError, match="norm_batch has no effect: vit has no batch norm"):
        set_norm_groups(net, 2, "vit")
    with pytest.raises(UsageError, match="has no running statistics of fixed momentum"):
        set_norm_groups(nn.BatchNorm2d(3, momentum=None), 2)
