"""What holds for every method of the registry, and a guard that each has all that belongs to it."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch
from robustmix.data.transforms import normalise
from robustmix.evaluation.evaluate import evaluate
from robustmix.methods import METHODS, Setup
from robustmix.methods.method_card import method_card
from robustmix.methods.mixing import Mixer, soft_targets
from robustmix.methods.momentum_pair import as_teacher_method
from robustmix.methods.registry import build_method
from robustmix.models import load_model
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.registry import build_model
from robustmix.training.catalogue import list_rows
from tests.training.runs import (
    TRANSFORMER,
    WITH_TEACHER,
    assert_same_run,
    log,
    small_train,
    stop_after,
    trained_network,
)

GENERATORS = ("automix", "samix", "adautomix")
"""Methods whose mixtures a network makes that they train; tests of their own."""

MIXERS = [name for name in METHODS if name not in GENERATORS]

NO_IDENTITY = {
    "gridmix": "a rectangle has one pixel at least",
    "smoothmix": "it has no lam",
    "puzzlemix": "lam is the mean of a prior, no more",
    "co-mixup": "it labels blocks by what is salient",
    "supermix": "lam is what the teacher is asked for",
}
"""Why lam = 1 does not leave images as they are."""

NOT_ONE = {"snapmix": "it weighs what is hidden and what is shown"}
"""Why weights do not sum to 1."""

BATCH_WIDE = {
    "augmix": "each place in the batch has draws of its own",
    "co-mixup": "an image may be mixed with any of the batch",
    "supermix": "all masks start from draws of their place",
}
"""Why a mixture depends on the rest of the batch, or on the order in it."""

INEXACT = {"puzzlemix": 1e-4, "alignmix": 1e-4, "snapmix": 1e-5, "transmix": 1e-5}
"""Tolerances where sums over the batch's axis may be split otherwise; 1e-6 elsewhere."""

N, CLASSES = 4, 10


@cache
def digits() -> Batch:
    data = load_dataset("digits", "train")
    chosen = data.subset([3, 40, 77, 111])
    images = normalise(chosen.pixels.take(torch.arange(N)), data.mean, data.std)
    return Batch(images, chosen.labels, torch.arange(N))


def built(name: str, seed: int = 0, *, arch: str = "", **changes: Any) -> Any:
    """Return a method with fresh draws around the same network, with ``changes`` of its options."""
    arch = arch or (TRANSFORMER["arch"] if name == "transmix" else "resnet8")
    generator = torch.Generator().manual_seed(0)
    size = (3, 32, 32)
    network = build_model(arch, num_classes=CLASSES, input_size=size, generator=generator).eval()
    options = {"teacher": str(trained_network())} if name in WITH_TEACHER else {}
    options |= changes
    data = load_dataset("digits", "train")
    setup = Setup(
        rng=np.random.default_rng(seed),
        input_size=size,
        num_classes=CLASSES,
        mean=data.mean,
        std=data.std,
        arch=arch,
    )
    return build_method(name, network, options, setup)


def part(batch: Batch, places: torch.Tensor) -> Batch:
    return Batch(batch.images[places], batch.labels[places], batch.indices[places])


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_resumes_exactly_and_deploys_what_eval_takes(name: str, tmp_path: Path) -> None:
    short: dict[str, Any] = {"epochs": 1, "picture_every": 0}
    whole = small_train(tmp_path / "whole", name, **short)
    assert all(math.isfinite(line["train_loss"]) for line in log(tmp_path / "whole"))
    stopped = small_train(tmp_path / "parts", name, should_stop=stop_after(2), **short)
    assert stopped.interrupted
    assert_same_run(whole, small_train(tmp_path / "parts", name, **short))
    assert read_checkpoint(whole.best).method == name
    model = load_model(whole.best)
    report = evaluate(model, load_dataset("digits", "test").subset(range(16)), ["clean"])
    assert report.metric("clean.top1").n == 16
    # Only the network itself is deployed: no teacher, no generator.
    arch = TRANSFORMER["arch"] if name == "transmix" else "resnet8"
    bare = build_model(arch, num_classes=CLASSES, input_size=(3, 32, 32), generator=None)
    assert read_checkpoint(whole.best).model.keys() == bare.state_dict().keys()


@pytest.mark.parametrize("name", MIXERS)
def test_lam_one_is_the_identity(name: str) -> None:
    if name in NO_IDENTITY:
        pytest.skip(NO_IDENTITY[name])
    batch = digits()
    perm = torch.tensor([1, 0, 3, 2])
    for seed in range(3):  # deit and rsb choose one of two methods
        blend = built(name, seed).mix(batch, lam=1.0, perm=perm)
        assert torch.equal(blend.images, batch.images)
        targets = soft_targets(blend, batch.labels, CLASSES)
        assert torch.equal(targets, torch.eye(CLASSES)[batch.labels])


@pytest.mark.parametrize("name", MIXERS)
def test_targets_sum_to_one_and_partners_are_the_given_ones(name: str) -> None:
    batch, perm = digits(), torch.tensor([2, 0, 3, 1])
    for seed, lam in enumerate((None, 0.0, 0.3, 0.7)):
        blend = built(name, seed).mix(batch, lam=lam, perm=perm)
        assert blend.images.shape == batch.images.shape
        assert blend.images.isfinite().all()
        assert blend.weights.dtype == torch.float32
        assert float(blend.weights.min()) >= 0
        assert blend.weights.max() <= 1 + 1e-6
        if name not in NOT_ONE:
            sums = soft_targets(blend, batch.labels, CLASSES).sum(dim=1)
            torch.testing.assert_close(sums, torch.ones(N))
        if len(blend.sources) == 2 and name not in BATCH_WIDE:
            assert blend.sources.tolist() == [[0, 1, 2, 3], perm.tolist()]


@pytest.mark.parametrize("name", MIXERS)
def test_it_does_not_matter_in_which_order_images_are(name: str) -> None:
    if name in BATCH_WIDE:
        pytest.skip(BATCH_WIDE[name])
    batch, perm = digits(), torch.tensor([2, 0, 3, 1])
    order = torch.tensor([3, 1, 0, 2])
    place = order.argsort()
    for seed in range(2):
        one = built(name, seed).mix(batch, lam=0.4, perm=perm)
        moved = built(name, seed).mix(part(batch, order), lam=0.4, perm=place[perm[order]])
        atol = INEXACT.get(name, 1e-6)
        torch.testing.assert_close(moved.images, one.images[order], rtol=0, atol=atol)
        torch.testing.assert_close(moved.weights, one.weights[:, order], rtol=0, atol=atol)


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixture_depends_on_its_pair_alone(name: str) -> None:
    if name in BATCH_WIDE:
        pytest.skip(BATCH_WIDE[name])
    batch, pairs = digits(), torch.tensor([1, 0, 3, 2])
    for seed in range(2):
        whole = built(name, seed).mix(batch, lam=0.4, perm=pairs)
        alone = built(name, seed).mix(part(batch, torch.tensor([0, 1])), lam=0.4, perm=pairs[:2])
        atol = INEXACT.get(name, 1e-6)
        torch.testing.assert_close(alone.images, whole.images[:2], rtol=0, atol=atol)
        torch.testing.assert_close(alone.weights, whole.weights[:, :2], rtol=0, atol=atol)


@pytest.mark.parametrize("name", MIXERS)
def test_mixing_leaves_the_batch_the_network_and_torch_s_stream_alone(name: str) -> None:
    batch = digits()
    before = batch.images.clone()
    method = built(name)
    method.train()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    torch.manual_seed(0)
    stream = torch.get_rng_state()
    method.mix(batch)
    assert torch.equal(batch.images, before)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert method.network.training


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_a_teacher_is_asked_for_in_one_line(name: str, tmp_path: Path) -> None:
    if name not in METHODS:
        pytest.skip("not there yet")
    from robustmix.errors import UsageError

    with pytest.raises(UsageError, match="needs a trained teacher"):
        small_train(tmp_path, name, **{"method.teacher": ""})
    with pytest.raises(UsageError, match="there is no teacher"):
        small_train(tmp_path, name, **{"method.teacher": str(tmp_path / "no.pth")})


def test_every_method_has_all_that_belongs_to_it() -> None:
    recipes: dict[str, set[str]] = {}
    for row in list_rows():
        recipes.setdefault(row.method, set()).add(row.name)
    assert set(recipes) == set(METHODS)
    for name in METHODS:
        assert method_card(name).does, name
        shown = f"digits-resnet8-{name}" in recipes[name]
        assert shown != (name == "transmix"), name  # resnet8 has no attention
    for name in MIXERS:
        assert isinstance(built(name), Mixer), name
    for name in GENERATORS:
        assert as_teacher_method(built(name)) is not None, name
    assert set(GENERATORS) == {name for name in METHODS if METHODS.row(name).generator}
    for table in (NO_IDENTITY, NOT_ONE, BATCH_WIDE, INEXACT):
        assert set(cast("dict[str, Any]", table)) <= set(METHODS)


def test_the_listed_costs_are_the_passes_that_are_made() -> None:
    """A forward pass of the network or the teacher on N images counts 1, a backward one 2."""
    batch = digits()
    for name in MIXERS:
        if name in ("co-mixup", "supermix"):
            continue  # they keep or search for gradients; see their cards
        method = built(name)
        method.train()
        images = 0.0

        def count(share: float) -> Callable[..., None]:
            def add(module: Any, inputs: Any, output: Any) -> None:
                nonlocal images
                images += share * len(output)

            return add

        networks = [method.network, *([method.teacher.network] if name in WITH_TEACHER else [])]
        for network in networks:
            stem = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
            stem.register_forward_hook(count(1.0))
        loss = method.training_step(batch).loss
        forward = images / N
        assert loss.requires_grad
        # Every pass that the loss comes from is also gone back through.
        extra = {"snapmix": 1, "attentivemix": 1}.get(name, 0)
        if name == "puzzlemix":
            assert forward == 2
            continue
        assert METHODS.row(name).cost == 3 * (forward - extra) + extra, name
