"""Co-Mixup against vectors made with the authors' code.

Their cuts end in local minima, and what comes after one follows from it. So every labelling is
looked at from the state that theirs was made in: its costs must be the recorded ones, and ours of
the same costs must be as cheap. Mixtures, losses and gradients are those of the recorded labels.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.comixup import (
    CoMixup,
    CoMixupConfig,
    Decided,
    alike,
    best_labels,
    changes,
    costs,
    distances,
    labelled,
    mixable,
    object_places,
    objective,
    own_costs,
    repulsions,
)
from robustmix.methods.losses import cross_entropy
from robustmix.methods.method import Setup
from robustmix.methods.mixing import Blend, soft_targets
from robustmix.methods.puzzlemix import block_saliency, input_saliency
from robustmix.models.taps import in_eval_mode
from tests.reference.networks import Tiny
from tests.reference.tolerances import (
    GRADIENT,
    SCALAR,
    close,
    gradient_limits,
    largest,
    logits_limit,
    running_limits,
)
from tests.reference.vectors import Vectors, reference_params, vectors

Array = NDArray[Any]

SALIENCY = 1e-5
"""Of the largest saliency: a gradient through one convolution and norm."""

CUT = 1e-4
"""Of an energy: the authors' cuts are of costs in whole parts of 1e-5, of up to some ten blocks."""


def config_of(case: Vectors) -> CoMixupConfig:
    kind = str(case["m_thres_type"])
    assert kind in ("hard", "soft")
    threshold_type: Literal["hard", "soft"] = "hard" if kind == "hard" else "soft"
    return CoMixupConfig(
        alpha=float(case["mixup_alpha"]),
        blocks=int(case["m_block_num"]),
        part=int(case["m_part"]),
        beta=float(case["m_beta"]),
        gamma=float(case["m_gamma"]),
        eta=float(case["m_eta"]),
        threshold=float(case["m_thres"]),
        threshold_type=threshold_type,
        omega=float(case["m_omega"]),
        sweeps=int(case["m_niter"]),
        resolve=bool(case["set_resolve"]),
        clean_weight=float(case["clean_lam"]),
    )


def method_of(case: Vectors) -> CoMixup:
    setup = Setup(rng=np.random.default_rng(0), input_size=case["img"].shape[1:])
    return CoMixup(Tiny(case).train(), config_of(case), setup)


def batch_of(case: Vectors) -> Batch:
    labels = case.tensor("label")
    return Batch(case.tensor("img"), labels, torch.arange(len(labels)))


def parts_of(case: Vectors) -> list[tuple[slice, Vectors]]:
    """The images of each part, and what is recorded of it."""
    found, start = [], 0
    for number in range(int(case["parts"])):
        part = case.part(f"part{number}/")
        stop = start + len(part["labels"])
        found.append((slice(start, stop), part))
        start = stop
    assert start == len(case["img"])
    return found


@pytest.mark.parametrize("path", reference_params("methods_comixup*.npz"))
def test_the_clean_pass(path: Path) -> None:
    for case in vectors(path):
        method, batch = method_of(case), batch_of(case)
        want = case.tensor("saliency")
        if case["clean_lam"]:
            found, got = method.clean_pass(batch)
            limit = SCALAR * max(1.0, float(case["loss_clean"]))
            close(f"{case.name} loss", found.loss, case.tensor("loss_clean"), limit)
            logits = method_of(case).network(batch.images)
        else:  # theirs is of the mean loss, ours of the sum
            got = input_saliency(method.network, batch.images, batch.labels) / len(want)
            with in_eval_mode(method.network):
                logits = method.network(batch.images)
            loss = cross_entropy(logits, batch.labels)
            limit = SCALAR * max(1.0, float(case["loss_clean"]))
            close(f"{case.name} loss", loss, case.tensor("loss_clean"), limit)
        close(f"{case.name} saliency", got, want, SALIENCY * largest(want))
        want = case.tensor("logits_clean")
        close(f"{case.name} logits", logits, want, logits_limit(want))


@pytest.mark.parametrize("path", reference_params("methods_comixup*.npz"))
def test_shares_distances_and_repulsion(path: Path) -> None:
    for case in vectors(path):
        config, saliency = config_of(case), case.tensor("saliency")
        far = distances(object_places(saliency)[None])
        assert far[0].tolist() == case["A_dist"].tolist(), case.name
        shares = block_saliency(saliency, config.blocks)
        for images, part in parts_of(case):
            want = -part.tensor("cost_saliency")
            close(f"{part.name} shares", shares[images], want, SCALAR)
            got = repulsions(far[:, images, images], config)[0]
            close(f"{part.name} A", torch.from_numpy(got), part.tensor("A").double(), SCALAR)


def energy(cost: Array, labels: Array, beta: float) -> float:
    """The energy of one mixture's labels (n, n, P): its blocks' costs and its edges."""
    side = len(labels)
    shown = [[np.flatnonzero(labels[i, j]).tolist() for j in range(side)] for i in range(side)]
    total = 0.0
    for i, j in np.ndindex(side, side):
        here = shown[i][j]
        total += float(cost[i, j, here].mean()) - 5e-4 * (len(here) - 1)
        for there in ([shown[i + 1][j]] if i + 1 < side else []) + shown[i][j + 1 : j + 2]:
            if here != there:
                few, many = sorted((here, there), key=len)
                near = len(few) == 1 and len(many) == 2 and few[0] in many
                total += beta * (0.25 if near else 1)
    return total


def check_labellings(case: Vectors, images: slice, part: Vectors) -> None:
    """Go through the authors' sweeps, taking over the labels of each."""
    config = config_of(case)
    count, cells = len(part["labels"]), config.blocks**2
    far = case["A_dist"][images, images].astype(np.float64)[None]
    shares, prior = -part["cost_saliency"].astype(np.float64), part["prior"].astype(np.float64)
    unary, repulsion = own_costs(shares[None], prior[None], config), repulsions(far, config)
    labels = np.eye(count)[part["start"]]
    extra = np.zeros((count, count))
    before = objective(unary, labels[None], config)
    calls = len(part["call_cost"])
    for call in range(calls):
        name, sweep, i = f"{part.name} call {call}", int(part["call_sweep"][call]), call % count
        assert sweep == call // count, name
        counts = labels.sum(axis=(1, 2))
        assert counts[i].tolist() == part["call_count"][call].tolist(), name
        others = counts.sum(axis=0) - counts[i]
        got = costs(unary, repulsion, others[None], extra[i][None], config)[0]
        cost = part["call_cost"][call].astype(np.float64)
        want = torch.from_numpy(cost)
        close(f"{name} cost", torch.from_numpy(got), want, SCALAR * max(1.0, largest(want)))

        used = mixable(counts[i] if sweep else counts[i][:0])
        theirs = np.sort(part["call_used"][call][part["call_used"][call] >= 0])
        # Which of equally used images is the third is anyone's choice.
        assert sorted(counts[i][used]) == sorted(counts[i][theirs]), name
        recorded = part["call_shares"][call].astype(np.float64)
        least = float(part["call_energy"][call])
        beta = config.beta / cells
        assert energy(cost, recorded, beta) == pytest.approx(least, abs=CUT / 10), name
        ours = best_labels(cost[None], [theirs], beta)[0]
        assert energy(cost, ours, beta) <= least + CUT, name

        labels[i] = recorded
        if i == count - 1:
            if sweep == config.sweeps - 2 and config.resolve:
                extra = alike(labels.sum(axis=(1, 2)) > 0)
            after = objective(unary, labels[None], config)
            going = bool(changes(before, after)[0]) and sweep < config.sweeps - 1
            assert going == (call < calls - 1), f"{name}: when sweeps end"
            before = after
    assert labels.tolist() == part["labels"].tolist()


@pytest.mark.parametrize("path", reference_params("methods_comixup*.npz"))
def test_every_labelling(path: Path) -> None:
    for case in vectors(path):
        for images, part in parts_of(case):
            check_labellings(case, images, part)


@pytest.mark.parametrize("path", reference_params("methods_comixup*.npz"))
def test_mixtures_and_the_step_for_the_recorded_labels(path: Path) -> None:
    for case in vectors(path):
        method, batch = method_of(case), batch_of(case)
        clean = method.look(batch)[0]
        told = labelled([part["labels"].astype(np.float64) for _, part in parts_of(case)])
        passed: list[Tensor] = []
        hook = method.network.register_forward_hook(
            lambda _, given, out, passed=passed: passed.extend((given[0], out))
        )
        result = method.compute(batch, Decided(clean, told))
        hook.remove()
        images, logits = passed
        want = case.tensor("mixed")
        close(f"{case.name} images", images, want, SCALAR * max(1.0, largest(want)))
        blend = Blend(images, told.sources, told.weights)
        targets = soft_targets(blend, batch.labels, int(case["num_classes"]))
        close(f"{case.name} targets", targets, case.tensor("targets"), SCALAR)
        want = case.tensor("logits_mixed")
        close(f"{case.name} logits", logits, want, logits_limit(want))
        want = case.tensor("loss_mixed")
        close(
            f"{case.name} loss", result.logs["loss_mixed"], want, SCALAR * max(1.0, largest(want))
        )
        result.loss.backward()  # type: ignore[no-untyped-call]
        ours, gradients = dict(method.network.named_parameters()), case.under("grad.")
        assert gradients.keys() == ours.keys()
        for name, limit in gradient_limits(gradients, GRADIENT).items():
            close(f"{case.name} gradient {name}", ours[name].grad, gradients[name], limit)
        buffers, statistics = dict(method.network.named_buffers()), case.under("buf_out.")
        assert statistics.keys() == buffers.keys()
        for name, limit in running_limits(statistics).items():
            close(f"{case.name} {name}", buffers[name], statistics[name], limit)
