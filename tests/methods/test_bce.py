"""Binary cross-entropy in place of cross-entropy: timm's, for every method that can have it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from robustmix.errors import UsageError
from robustmix.methods import METHODS, Setup
from robustmix.methods.losses import BinaryLoss, binary_cross_entropy, binary_label_loss
from robustmix.methods.mixing import soft_targets
from robustmix.methods.pair_masks import draw_automix
from robustmix.methods.registry import build_method
from robustmix.models.registry import build_model
from robustmix.training import resolve_recipe
from tests.methods.test_every_method import CLASSES, digits
from tests.training.runs import TRANSFORMER, WITH_TEACHER, log, small_train, trained_network

LEARNT = ("automix", "samix")
ABLE = [name for name, row in METHODS.rows().items() if not row.no_bce and name not in LEARNT]
UNABLE = [name for name, row in METHODS.rows().items() if row.no_bce]

HOWS = [
    BinaryLoss(),
    BinaryLoss(sum_classes=True),
    BinaryLoss(threshold=0.2),
    BinaryLoss(threshold=0.0, sum_classes=True),
]


def timms(how: BinaryLoss, smoothing: float = 0.0) -> BinaryCrossEntropy:
    return BinaryCrossEntropy(
        smoothing=smoothing, target_threshold=how.threshold, sum_classes=how.sum_classes
    )


def logits_and_targets() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(7, (5,), generator=generator)
    mixed = 0.85 * F.one_hot(labels, 7) + 0.15 * F.one_hot(labels.flip(0), 7)
    return 3 * torch.randn(5, 7, generator=generator), labels, mixed


@pytest.mark.parametrize("how", HOWS, ids=repr)
def test_it_is_timms(how: BinaryLoss) -> None:
    logits, labels, mixed = logits_and_targets()
    got = binary_cross_entropy(logits, mixed, how)
    torch.testing.assert_close(got, timms(how)(logits, mixed), rtol=1e-6, atol=1e-6)
    for smoothing in (0.0, 0.1):
        got = binary_label_loss(logits, labels, how, smoothing=smoothing)
        want = timms(how, smoothing)(logits, labels)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert binary_cross_entropy(logits.bfloat16(), mixed, how).dtype == torch.float32


def test_by_hand() -> None:
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4; targets .7 and .3, with a threshold of .5 1 and 0
    logits = torch.tensor([[0.0, np.log(3.0)]])
    target = torch.tensor([[0.7, 0.3]])
    want = np.log(2) - 0.3 * np.log(3 / 4) - 0.7 * np.log(1 / 4)
    got = binary_cross_entropy(logits, target, BinaryLoss(sum_classes=True))
    assert float(got) == pytest.approx(want)
    got = binary_cross_entropy(logits, target, BinaryLoss(threshold=0.5))
    assert float(got) == pytest.approx((np.log(2) - np.log(1 / 4)) / 2)


def built(name: str, how: BinaryLoss | None) -> Any:
    """Return a method around a network whose logits it shows, with fresh draws."""
    arch = TRANSFORMER["arch"] if name == "transmix" else "resnet8"
    generator, size = torch.Generator().manual_seed(0), (3, 32, 32)
    network = build_model(arch, num_classes=CLASSES, input_size=size, generator=generator).eval()
    options = {"teacher": str(trained_network())} if name in WITH_TEACHER else {}
    setup = Setup(
        rng=np.random.default_rng(2), input_size=size, num_classes=CLASSES, arch=arch, bce=how
    )
    return build_method(name, network, options, setup)


@pytest.mark.parametrize("name", ABLE)
def test_a_method_is_trained_with_it(name: str) -> None:
    """Its loss is timm's of the logits of its own mixture."""
    how = BinaryLoss(threshold=0.25, sum_classes=True)
    method, other, batch = built(name, how), built(name, how), digits()
    head = method.network.head if name == "transmix" else method.network.fc
    seen: list[Tensor] = []
    head.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    loss = method.training_step(batch).loss
    if name == "transmix":  # whose ``mix`` always cuts: past the draw of which of the two it is
        assert other.rng.uniform() < other.config.cutmix_prob
    targets = soft_targets(other.mix(batch), batch.labels, CLASSES)
    torch.testing.assert_close(loss, timms(how)(seen[-1], targets), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LEARNT)
def test_learnt_masks_are_trained_with_it(name: str) -> None:
    """Each of the three losses is timm's of its own logits."""
    how, batch = BinaryLoss(threshold=0.25, sum_classes=True), digits()
    method = built(name, how).train()
    draws = draw_automix(len(batch.labels), (32, 32), method.config, np.random.default_rng(1))
    terms = method.step(batch, draws)
    one_hot = F.one_hot(batch.labels, CLASSES).float()
    found = [terms.loss_one_q, terms.loss_mix_q, terms.loss_mix_k]
    logits = [terms.logits_one_q, terms.logits_mix_q, terms.logits_mix_k]
    partners = (None, (draws.lam_bb, draws.index_bb), (draws.lam_mb, draws.index_mb))
    for loss, seen, pair in zip(found, logits, partners, strict=True):
        mixed = one_hot
        if pair is not None:
            lam, index = pair
            mixed = lam * one_hot + (1 - lam) * one_hot[index]
        torch.testing.assert_close(loss, timms(how)(seen, mixed), rtol=1e-5, atol=1e-5)
    assert terms.loss.requires_grad


def test_rsb_has_it_by_itself() -> None:
    batch = digits()
    blend = built("rsb", None).mix(batch)
    targets = soft_targets(blend, batch.labels, CLASSES)
    for how in (None, BinaryLoss(threshold=0.2, sum_classes=True)):
        method = built("rsb", how)
        logits = method.network(blend.images)
        want = timms(how or BinaryLoss())(logits, targets)
        torch.testing.assert_close(method.training_step(batch).loss, want, rtol=1e-5, atol=1e-5)
    sets = ["bce_sum=true", "bce_threshold=0.2"]
    recipe = resolve_recipe("digits-resnet8-rsb", sets=sets)
    assert (recipe.bce_sum, recipe.bce_threshold) == (True, 0.2)
    with pytest.raises(UsageError, match="bce_sum of set has no effect"):
        resolve_recipe("digits-resnet8-rsb", sets=[*sets, "method.loss=ce"])


@pytest.mark.parametrize("name", UNABLE)
def test_a_method_that_cannot_says_why(name: str) -> None:
    want = f"loss: method {name} cannot be trained with bce: {METHODS.row(name).no_bce}; leave it o"
    with pytest.raises(UsageError) as error:
        resolve_recipe(overrides={"method": name, "loss": "bce"})
    assert want in str(error.value)
    if name != "rsb":  # which says it by its own option
        assert resolve_recipe(overrides={"method": name, "loss": "ce"}).loss == "ce"


def test_all_that_mix_by_rule_can() -> None:
    assert set(UNABLE) == {"snapmix", "co-mixup", "augmix", "rsb", "adautomix"}


def test_a_run_is_trained_with_it(tmp_path: Path) -> None:
    losses = []
    settings: list[dict[str, Any]] = [{}, {"loss": "bce"}, {"loss": "bce", "bce_sum": True}]
    for i, changes in enumerate(settings):
        small_train(tmp_path / str(i), "cutmix", epochs=1, lr=1e-6, **changes)
        losses.append(log(tmp_path / str(i))[0]["train_loss"])
    # Ten classes of chance 1/10: -ln .1 in all, and as ten questions with logits near 0 10 ln 2.
    assert losses[0] == pytest.approx(np.log(10), abs=0.5)
    assert losses[1] == pytest.approx(np.log(2), abs=0.1)
    assert losses[2] == pytest.approx(10 * losses[1], rel=1e-5)
    with pytest.raises(UsageError, match="bce_threshold of given has no effect: the loss is ce"):
        small_train(tmp_path / "x", bce_threshold=0.2)
