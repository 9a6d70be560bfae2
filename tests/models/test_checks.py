import pytest
import torch
from torch import Tensor, nn

from robustmix.models.checks import (
    buffers_hash,
    looks_like_probabilities,
    sanity_checks,
    state_hash,
)
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel

SIZE = (3, 8, 11)


def images(n: int = 5) -> Tensor:
    return torch.rand(n, *SIZE, generator=torch.Generator().manual_seed(0))


def wrap(net: nn.Module) -> RobustModel:
    return RobustModel(net, mean=[0.5] * 3, std=[0.25] * 3, num_classes=4, input_size=SIZE)


def resnet() -> nn.Module:
    return build_model("resnet8", num_classes=4, input_size=SIZE, init="torch")


def test_a_sound_model_passes() -> None:
    model = wrap(resnet())
    checks = sanity_checks(model, images())
    for check in ("deterministic", "batch_independent", "buffers_stable"):
        assert checks[check] is True, check
    assert checks["output"] == "logits"
    assert checks["params"] == sum(p.numel() for p in model.parameters())
    assert checks["state_sha256"] == state_hash(model)
    logits = model(images()).double()
    probs = logits.softmax(dim=1)
    entropy = -(probs * probs.log()).sum(dim=1).mean().item()
    assert checks["mean_entropy"] == pytest.approx(entropy)
    bias = model.net.get_parameter("fc.bias")
    assert checks["head_bias_range"] == [bias.min().item(), bias.max().item()]


class BatchCentred(nn.Module):
    """Looks at the whole batch even in eval mode."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x - x.mean(dim=0))
        return out


@pytest.mark.parametrize("n", [1, 5])
def test_dependence_on_the_batch_is_seen(n: int) -> None:
    checks = sanity_checks(wrap(BatchCentred(resnet())), images(n))
    assert checks["batch_independent"] is False
    assert sanity_checks(wrap(resnet()), images(n))["batch_independent"] is True


class Counting(nn.Module):
    """Changes a buffer, and with it its output, at every pass."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.flatten(1)[:, :4] * self.calls


def test_a_state_that_moves_is_seen() -> None:
    checks = sanity_checks(wrap(Counting()), images())
    assert checks["deterministic"] is False
    assert checks["buffers_stable"] is False
    assert checks["head_bias_range"] is None


def test_softmax_outputs_are_seen() -> None:
    checks = sanity_checks(wrap(nn.Sequential(resnet(), nn.Softmax(dim=1))), images())
    assert checks["output"] == "probabilities"


def test_non_finite_outputs_are_reported_not_hidden() -> None:
    net = resnet()
    with torch.no_grad():
        net.get_parameter("fc.bias")[1] = torch.nan
    checks = sanity_checks(wrap(net), images())
    assert checks["output"] == "nonfinite"
    assert checks["batch_independent"] is False
    assert checks["mean_entropy"] is None
    assert checks["batch_difference"] is None


def test_no_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        sanity_checks(wrap(resnet()), images(0))


def random_logits(n: int, k: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(n + k))


@pytest.mark.parametrize(("n", "k"), [(1, 2), (7, 10), (3, 1000)])
def test_probabilities_are_told_from_logits(n: int, k: int) -> None:
    logits = random_logits(n, k)
    assert not looks_like_probabilities(logits)
    assert looks_like_probabilities(logits.softmax(1))
    assert looks_like_probabilities(logits.log_softmax(1))
    assert looks_like_probabilities(logits.sigmoid()) == (n * k >= 20)


def test_one_row_of_logits_among_probabilities_is_enough() -> None:
    rows = random_logits(4, 10).softmax(1)
    rows[2, 3] += 0.01
    rows[2, 4] -= 2.0
    assert not looks_like_probabilities(rows)


@pytest.mark.parametrize(
    "outputs",
    [torch.zeros(3, 4), torch.zeros(0, 4), torch.ones(2, 1), torch.full((2, 3), torch.nan)],
)
def test_no_evidence_is_no_suspicion(outputs: Tensor) -> None:
    assert not looks_like_probabilities(outputs)


def test_the_order_of_the_modules_does_not_matter() -> None:
    parts = {"a": Counting(), "b": Counting()}
    parts["b"].calls += 1
    backwards = dict(reversed(parts.items()))
    assert state_hash(nn.ModuleDict(parts)) == state_hash(nn.ModuleDict(backwards))


def test_hashes_see_one_changed_number_and_nothing_else() -> None:
    first, second = resnet(), resnet()
    assert state_hash(first) == state_hash(second)
    assert state_hash(first) == state_hash(second.train())
    second.get_buffer("bn1.running_mean")[3] += 1e-7
    assert state_hash(first) != state_hash(second)
    assert buffers_hash(first) != buffers_hash(second)
    third = resnet()
    with torch.no_grad():
        third.get_parameter("fc.weight")[0, 0] += 1e-3
    assert buffers_hash(first) == buffers_hash(third)
    assert state_hash(first) != state_hash(third)
    assert state_hash(first) != state_hash(resnet().bfloat16())
    assert len(state_hash(first)) == 64
