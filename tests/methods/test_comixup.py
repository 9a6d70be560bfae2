"""Co-Mixup against a slow port of its description, all labellings of tiny parts, and by hand."""

import itertools
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import Setup, cross_entropy
from robustmix.methods.comixup import (
    CoMixup,
    CoMixupConfig,
    CoMixupDraws,
    alike,
    best_labels,
    comixup,
    draw_comixup,
    joint_labels,
    object_places,
    objective,
    parts,
    with_gradients,
)
from robustmix.methods.losses import softmax_binary_cross_entropy
from robustmix.methods.mixing import soft_targets
from robustmix.methods.puzzlemix import block_saliency

Array = NDArray[Any]


def part(seed: int, parts_: int, images: int, side: int) -> tuple[Array, Array, Array, Array]:
    """Saliency shares, distances of objects, first labels and prior."""
    rng = np.random.default_rng(seed)
    shares = rng.random((parts_, images, side, side)) ** 3
    far = rng.integers(0, 20, (parts_, images, images))
    return (
        shares / shares.sum(axis=(2, 3), keepdims=True),
        far + far.swapaxes(1, 2),
        rng.integers(images, size=(parts_, images, side, side)),
        rng.dirichlet(np.full(images, 2.0), size=parts_),
    )


def slow_objective(unary: Array, labels: Array, config: CoMixupConfig) -> float:
    cells = unary.shape[0] * unary.shape[1]
    value = 0.0
    for shown in labels:
        value += (unary * shown).sum()
        for axis in (0, 1):
            value += config.beta / cells / 2 * (np.diff(shown, axis=axis) ** 2).sum()
    for m in range(unary.shape[2]):
        counts = labels[..., m].sum(axis=(1, 2))
        value += config.gamma / cells * (counts.sum() ** 2 - (counts**2).sum())
    return value


def apart(one: tuple[int, ...], two: tuple[int, ...]) -> float:
    """Distance of two labels, each of one image or of halves of two."""
    if one == two:
        return 0
    few, many = sorted((one, two), key=len)
    return 0.25 if len(few) == 1 and len(many) == 2 and few[0] in many else 1


def slow_best(cost: Array, names: list[tuple[int, ...]], edge: float) -> Array:
    """Every labelling of one mixture is tried."""
    side, _, images = cost.shape
    values = np.stack(
        [cost[:, :, list(p)].mean(axis=2) - 5e-4 * (len(p) - 1) for p in names], axis=2
    )
    steps = np.array([[edge * apart(a, b) for b in names] for a in names])
    best = np.inf
    for flat in itertools.product(range(len(names)), repeat=side * side):
        trial = np.array(flat).reshape(side, side)
        value = np.take_along_axis(values, trial[:, :, None], axis=2).sum()
        value += steps[trial[:-1], trial[1:]].sum() + steps[trial[:, :-1], trial[:, 1:]].sum()
        if value < best - 1e-12:
            best, kept = value, trial
    labels = np.zeros((side, side, images))
    for i, j in np.ndindex(side, side):
        for m in names[kept[i, j]]:
            labels[i, j, m] = 1 / len(names[kept[i, j]])
    return labels


def slow_extra(labels: Array) -> Array:
    extra = np.zeros((len(labels), labels.shape[-1]))
    shown = [set(np.flatnonzero(one.sum(axis=(0, 1))).tolist()) for one in labels]
    for a, b in itertools.combinations(range(len(labels)), 2):
        if shown[a] == shown[b] and len(shown[a]) > 1:
            first, second = sorted(shown[a])[:2]
            extra[a, first] = extra[b, second] = 1
    return extra


def slow_beyond(repulsion: Array, shown: Array, config: CoMixupConfig) -> Array:
    """Sums by loops, as the release has them or as the product of its two factors."""
    cells, images = config.blocks**2, range(len(shown))
    summed = [sum(repulsion[i, j] * shown[j] for j in images) for i in images]
    over = [value > config.threshold * cells for value in summed]
    found = np.zeros(len(shown))
    for i in images:
        if config.threshold_type == "soft":
            found[i] = max(summed[i] - config.threshold * cells, 0)
        elif config.threshold_on == "penalised":
            found[i] = summed[i] if over[i] else 0
        else:
            found[i] = sum(repulsion[i, j] * shown[j] for j in images if over[j])
    return found


def slow_sweeps(
    shares: Array, far: Array, start: Array, prior: Array, config: CoMixupConfig
) -> Array:
    """One part, mixture by mixture."""
    images, cells = len(shares), shares[0].size
    labels = np.array([[[np.eye(images)[m] for m in row] for row in one] for one in start])
    liking = config.eta / cells * np.log(prior + 1e-8)
    unary = np.stack([-shares[m] - liking[m] for m in range(images)], axis=2)
    repulsion = (1 - config.omega) * np.eye(images) + config.omega * far / far.sum() * images
    extra = np.zeros((images, images))
    before = slow_objective(unary, labels, config)
    for sweep in range(config.sweeps):
        for o in range(images):
            others = [labels[k].sum(axis=(0, 1)) for k in range(images) if k != o]
            repelled = 2 * slow_beyond(repulsion, np.sum(others, axis=0), config) + extra[o]
            counts = labels[o].sum(axis=(0, 1))
            used = sorted(sorted(np.flatnonzero(counts), key=lambda m: (-counts[m], m))[:3])
            names: list[tuple[int, ...]] = [(m,) for m in range(images)]
            if sweep:
                names += [*itertools.combinations([int(m) for m in used], 2)]
            cost = unary + config.gamma / cells * repelled
            labels[o] = slow_best(cost, names, config.beta / cells)
        if sweep == config.sweeps - 2 and config.resolve:
            extra = slow_extra(labels)
        after = slow_objective(unary, labels, config)
        if abs(before - after) < 1e-6 * abs(after):
            break
        before = after
    return labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.05},
        {"beta": 0.02, "threshold": 0.3, "sweeps": 3},
        {"gamma": 0.05, "omega": 0.5, "beta": 0.1},
        {"gamma": 0.05, "omega": 0.5, "beta": 0.1, "threshold_on": "penalised"},
        {"gamma": 0.05, "omega": 0.5, "beta": 0.1, "threshold_type": "soft", "threshold": 0.5},
        {"gamma": 0.0, "eta": 0.5, "resolve": False},
        {"beta": 0.01, "gamma": 0.02, "sweeps": 2, "eta": 0.0},
    ],
)
def test_joint_labels_against_every_labelling(options: dict[str, Any]) -> None:
    config = CoMixupConfig(blocks=2, **options)
    for seed in range(2):
        problem = part(seed, 2, 4, 2)
        got = joint_labels(*problem, config)
        for p in range(2):
            shares, far, start, prior = (array[p] for array in problem)
            want = slow_sweeps(shares, far, start, prior, config)
            np.testing.assert_array_equal(got[p], want)


def test_parts_do_not_mix() -> None:
    problem = part(3, 3, 7, 4)
    config = CoMixupConfig()
    together = joint_labels(*problem, config)
    assert set(np.unique(together)) <= {0.0, 0.5, 1.0}
    np.testing.assert_allclose(together.sum(axis=-1), 1)
    for p in range(3):
        shares, far, start, prior = (array[p : p + 1] for array in problem)
        alone = joint_labels(shares, far, start, prior, config)
        np.testing.assert_array_equal(alone[0], together[p])


def test_one_image_is_shown_once_if_all_are_alike() -> None:
    """Without saliency to choose by, repulsion leaves every image one mixture."""
    shares = np.full((1, 5, 4, 4), 1 / 16)
    _, far, start, prior = part(0, 1, 5, 4)
    labels = joint_labels(shares, far, start, prior, CoMixupConfig(eta=0.0))[0]
    np.testing.assert_allclose(labels.sum(axis=(0, 1, 2)), 16, atol=16 * 0.83)
    config = CoMixupConfig(eta=0.0, gamma=0.0, beta=1.0)
    free = joint_labels(shares - np.arange(5)[:, None, None] / 9, far, start, prior, config)[0]
    assert (free[..., 0] == 1).all()  # nothing repels: all show the most salient


def test_swaps_take_over_where_the_table_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two labels and no halves: swaps are exact too."""
    rng = np.random.default_rng(0)
    cost = rng.random((3, 4, 4, 2))
    used = [np.empty(0, dtype=np.int64)] * 3
    exact = best_labels(cost, used, 0.1)

    def refuse(unary: Array, weight: float, distance: Array) -> Array:
        return np.full(unary.shape[:3], -1)

    monkeypatch.setattr(import_module("robustmix.methods.comixup"), "least_labels", refuse)
    np.testing.assert_array_equal(best_labels(cost, used, 0.1), exact)
    halved = best_labels(cost, [np.array([0, 1])] * 3, 0.1)
    assert (halved == 0.5).any()


def test_of_equal_images_both_halves_are_shown() -> None:
    labels = best_labels(np.zeros((1, 2, 2, 3)), [np.array([1, 2])], 0.1)
    assert labels.tolist() == [[[[0, 0.5, 0.5]] * 2] * 2]


def test_alike_mixtures_are_told_apart() -> None:
    used = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=bool)
    want = [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert alike(used).tolist() == want


def test_the_objective_by_hand() -> None:
    """Two mixtures on two blocks: (0, 1) and (0, half and half)."""
    labels = np.array([[[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 0.0], [0.5, 0.5]]]])
    unary = np.array([[[1.0, 2.0], [4.0, 8.0]]])
    config = CoMixupConfig(beta=2.0, gamma=3.0)
    shown = (1 + 8) + (1 + 6)
    rough = 2.0 / 2 / 2 * ((1 + 1) + (0.25 + 0.25))
    shared = 3.0 / 2 * ((2.5**2 + 1.5**2) - (1 + 1 + 1.5**2 + 0.5**2))
    got = objective(unary[None], labels[None], config)
    assert got.tolist() == pytest.approx([shown + rough + shared])


def test_objects_are_where_the_window_is_brightest() -> None:
    saliency = torch.zeros(2, 12, 13)
    saliency[0, 3:11, 4:12] = 1
    saliency[1, 0, 0] = 1
    assert object_places(saliency).tolist() == [[3, 4], [0, 0]]
    assert object_places(saliency[:, :3, :5]).shape == (2, 2)  # smaller than the window


def batch(n: int, side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, side, side, generator=generator)
    return images, torch.rand(n, side, side, generator=generator) ** 4


def test_blend_is_what_the_labels_say() -> None:
    images, saliency = batch(7)
    config = CoMixupConfig(part=4, beta=0.01, gamma=0.3)
    draws = draw_comixup(7, config, np.random.default_rng(0))
    got = comixup(images, saliency, draws, config)
    shares = block_saliency(saliency, 4).double().numpy()
    spots = object_places(saliency)
    classes = torch.tensor([0, 1, 2, 3, 4, 5, 5])
    targets = soft_targets(got, classes, 6)
    for place in (slice(0, 4), slice(4, 7)):
        far = np.abs(spots[place, None] - spots[None, place]).sum(axis=2)
        start, prior = draws.start[place], draws.prior[place]
        found = joint_labels(shares[None, place], far[None], start[None], prior[None], config)
        labels = torch.from_numpy(found[0]).float()
        for o in range(len(labels)):
            for i, j in np.ndindex(4, 4):
                rows, cols = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
                block = images[place, :, rows, cols]
                want = (labels[o, i, j][:, None, None, None] * block).sum(dim=0)
                shown = got.images[place.start + o, :, rows, cols]
                torch.testing.assert_close(shown, want)
            mean = labels[o].mean(dim=(0, 1))
            want = mean @ torch.eye(6)[classes[place]]
            torch.testing.assert_close(targets[place.start + o], want)
    assert (got.weights[0] >= got.weights[-1]).all()
    assert (got.weights[-1] > 0).any()


def test_draws() -> None:
    config = CoMixupConfig(part=3, blocks=2)
    draws = draw_comixup(8, config, np.random.default_rng(0))
    assert draws.start.shape == (8, 2, 2)
    assert draws.start[:6].max() == 2
    assert draws.start[6:].max() == 1
    sums = [draws.prior[place].sum() for place in parts(8, 3)]
    assert sums == pytest.approx([1, 1, 1])


def test_binary_cross_entropy_of_the_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [300.0, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    p = torch.softmax(torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64), dim=0)
    first = -(0.5 * p[0].log() + 0.5 * (1 - p[0]).log() + 0.5 * p[1].log())
    first = first - 0.5 * (1 - p[1]).log() - (1 - p[2]).log()
    want = (float(first) + 100 + 100 + 0) / 6  # cut at -100
    got = softmax_binary_cross_entropy(logits, targets)
    assert float(got.detach()) == pytest.approx(want, rel=1e-6)
    (gradient,) = torch.autograd.grad(got, logits)
    assert gradient.isfinite().all()


def test_gradients_are_carried() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    other = torch.tensor(3.0, requires_grad=True)
    value = (weight**2).sum()
    (gradient,) = torch.autograd.grad(value, weight)
    carried = with_gradients(value, [weight, other], [gradient, None])
    assert float(carried.detach()) == 5.0
    (carried * 2).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [4.0, 8.0]
    assert other.grad is None


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("clean_weight", [0.0, 1.0, 2.5])
def test_a_step_is_one_of_the_clean_and_the_mixed_loss(clean_weight: float) -> None:
    images, _ = batch(6)
    data = Batch(images, torch.tensor([0, 1, 2, 3, 4, 0]), torch.arange(6))
    config = CoMixupConfig(clean_weight=clean_weight, beta=0.05)
    nets = [network(), network()]
    setup = Setup(rng=np.random.default_rng(4), input_size=(3, 8, 8), label_smoothing=0.1)
    result = CoMixup(nets[0], config, setup).training_step(data)
    result.loss.backward()  # type: ignore[no-untyped-call]

    net = nets[1]
    inputs = images.clone().requires_grad_()
    if clean_weight == 0:
        net.eval()
    clean = cross_entropy(net(inputs), data.labels, smoothing=0.1 if clean_weight else 0.0)
    (gradient,) = torch.autograd.grad(clean, inputs, retain_graph=True)
    saliency = gradient.square().mean(dim=1).sqrt()
    net.train()
    draws: CoMixupDraws = draw_comixup(6, config, np.random.default_rng(4))
    blend = comixup(images, saliency, draws, config)
    p = net(blend.images).softmax(dim=1)
    targets = 0.9 * soft_targets(blend, data.labels, 5) + 0.1 / 5
    mixed = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    loss = clean_weight * 2 / 5 * clean + mixed
    loss.backward()
    assert float(result.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for got, want in zip(nets[0].parameters(), net.parameters(), strict=True):
        assert got.grad is not None
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-4, atol=1e-6)
    for after, expected in zip(nets[0].buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(after, expected)
    assert not any(value.requires_grad for value in result.logs.values())
    assert not data.images.requires_grad


def test_impossible_images_and_options_are_refused() -> None:
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, 30, 30))
    with pytest.raises(UsageError, match="4x4 blocks"):
        CoMixup(network(), CoMixupConfig(), setup)
    wrong: list[dict[str, Any]] = [
        {"alpha": 0.0},
        {"part": 0},
        {"beta": -1.0},
        {"omega": 1.5},
        {"sweeps": 0},
        {"threshold_type": "x"},
        {"threshold_on": "x"},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match=next(iter(options))):
            CoMixupConfig(**options)


def test_what_the_threshold_is_on_matters_with_omega_and_a_hard_one_only() -> None:
    assert CoMixupConfig().without_effect() == {}
    assert "omega" in CoMixupConfig(omega=0.0).without_effect()["threshold_on"]
    assert "soft" in CoMixupConfig(threshold_type="soft").without_effect()["threshold_on"]
    problem = part(0, 1, 5, 4)
    found = {
        (omega, on): joint_labels(*problem, CoMixupConfig(omega=omega, threshold_on=on))
        for omega in (0.0, 0.3)
        for on in ("summed", "penalised")
    }
    assert np.array_equal(found[0.0, "summed"], found[0.0, "penalised"])
    assert not np.array_equal(found[0.3, "summed"], found[0.3, "penalised"])
