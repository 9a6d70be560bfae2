"""Flip probability and top-5 distance: worked examples, and a slow second implementation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.data.perturbed.names import CIFAR, IMAGENET, all_names, is_noise
from robustmix.errors import IntakeError
from robustmix.metrics.perturbed import (
    compared,
    distances,
    flips,
    load_flip_reference,
    ranks,
    top5_distance,
)

P = [1, 2, 2, 2, 1]
Q = [3, 3, 3, 3, 3]


def test_flips_of_two_sequences() -> None:
    both = torch.tensor([P, Q])
    assert flips(both, noise=False).tolist() == [0.5, 0.0]  # FP 0.25
    assert flips(both, noise=True).tolist() == [0.75, 0.0]  # FP 0.375


def test_flips_of_pictures_two_apart_are_pooled() -> None:
    assert flips(torch.tensor([P]), noise=False, difficulty=2).item() == pytest.approx(2 / 3)
    # Noise reads harder pictures; the comparison stays.
    assert flips(torch.tensor([P]), noise=True, difficulty=2).item() == 0.75


@pytest.mark.parametrize("pictures", [16, 21, 31, 41])
@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_pooled_offsets_are_the_interleaved_sequences(pictures: int, difficulty: int) -> None:
    apart = [
        pair
        for start in range(difficulty)
        for pair in zip(
            range(start, pictures, difficulty), range(start + difficulty, pictures, difficulty),
            strict=False,
        )
    ]  # fmt: skip
    assert sorted(compared(pictures, noise=False, difficulty=difficulty)) == sorted(apart)
    assert len(compared(pictures, noise=True)) == pictures - 1


def test_which_perturbations_count_and_which_are_noise() -> None:
    assert set(IMAGENET) - set(CIFAR) == {"snow"}
    assert set(CIFAR) - set(IMAGENET) == {"spatter"}
    assert len(CIFAR) == len(IMAGENET) == 10
    assert len(all_names("cifar10")) == len(all_names("imagenet-1k")) == 14
    noises = {name for name in all_names("cifar10") if is_noise(name)}
    assert noises == {"gaussian_noise", "shot_noise", "speckle_noise"}


def logits_in_order(*order: int, classes: int = 12) -> torch.Tensor:
    """Logits whose ranking begins with ``order``; the other classes follow by their numbers."""
    whole = [*order, *(c for c in range(classes) if c not in order)]
    logits = torch.empty(classes)
    logits[torch.tensor(whole)] = torch.arange(classes, 0, -1).float()
    return logits


REFERENCE = logits_in_order(0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("order", "distance"),
    [
        ((0, 1, 2, 3, 4), 0),
        ((1, 0, 2, 3, 4), 2),
        ((0, 1, 2, 3, 5, 6, 7, 8, 4), 1),  # the old fifth falls to rank 9, capped at 6
        ((7, 8, 9, 10, 11), 15),
        ((4, 3, 2, 1, 0), 12),
    ],
)
def test_top5_distances_by_hand(order: tuple[int, ...], distance: int) -> None:
    assert top5_distance(REFERENCE, logits_in_order(*order)).item() == distance


def test_the_distance_follows_the_references_classes_alone() -> None:
    # Class 5 comes in at rank 1: seen from it, its own class falls to rank 6, from the other all
    # move down by one.
    other = logits_in_order(5, 0, 1, 2, 3)
    assert top5_distance(REFERENCE, other).item() == 5
    assert top5_distance(other, REFERENCE).item() == 9


def test_ties_are_ranked_by_class() -> None:
    assert ranks(torch.tensor([0.0, 1.0, 1.0, 0.0])).tolist() == [3, 1, 2, 4]


def test_a_distance_equals_the_cumulative_form_of_it() -> None:
    # A second form: of each rank the classes between, counted one by one.
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        a, b = torch.randn(2, 9, generator=generator)
        of_b = {c: r for r, c in enumerate(np.argsort(-b.numpy(), kind="stable"), start=1)}
        total = 0
        for i, c in enumerate(np.argsort(-a.numpy(), kind="stable")[:5], start=1):
            low, high = sorted((i, of_b[c]))
            total += sum(1 for j in range(low + 1, high + 1) if j - 1 < 6 and j <= 6)
        assert top5_distance(a, b).item() == total


def test_distances_are_means_over_the_same_comparisons_as_flips() -> None:
    a, b = REFERENCE, logits_in_order(1, 0, 2, 3, 4)
    sequence = torch.stack([a, b, b, b, a])[None]
    assert distances(sequence, noise=False).tolist() == [1.0]  # 2 0 0 2
    assert distances(sequence, noise=True).tolist() == [1.5]  # 2 2 2 0


def reference(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_reference_says_where_it_is_from(tmp_path: Path) -> None:
    path = reference(tmp_path / "a.json", source="the sheet of issue 49", fp={"tilt": 0.2})
    found = load_flip_reference(path, "imagenet-1k", 1)
    assert (found.source, found.fp, found.ut5d) == ("the sheet of issue 49", {"tilt": 0.2}, {})
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    "content",
    [
        {"fp": {"tilt": 0.2}},
        {"source": "", "fp": {"tilt": 0.2}},
        {"source": "a"},
        {"source": "a", "fp": {"tilt": 0}},
        {"source": "a", "fp": {"tilt": 20}},
        {"source": "a", "fp": {"tilt": True}},
        {"source": "a", "fp": {"tilt": float("nan")}},
        {"source": "a", "ut5d": {"tilt": 16}},
        {"source": "a", "fp": [1]},
        {"source": "a", "fp": {"tilt": 0.2}, "pf": {}},
        {"source": "a", "fp": {"tilt": 0.2}, "dataset": 1},
        {"source": "a", "fp": {"tilt": 0.2}, "difficulty": "1"},
    ],
)
def test_what_is_no_reference(content: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="reference"):
        load_flip_reference(reference(tmp_path / "a.json", **content), "imagenet-1k", 1)
    (tmp_path / "b.json").write_text("[")
    with pytest.raises(IntakeError, match="reference"):
        load_flip_reference(tmp_path / "b.json", "imagenet-1k", 1)
