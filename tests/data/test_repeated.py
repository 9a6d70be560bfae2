"""Repeated augmentation: timm's index streams, from the order stream, resumed exactly."""

from pathlib import Path

import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch, batches_per_epoch, epoch_order, train_batches
from tests.training.runs import assert_same_run, log, small_train, stop_after


@pytest.mark.parametrize("n", [40, 255, 256, 300, 1000])
@pytest.mark.parametrize("repeats", [2, 3])
def test_the_order_is_timms(n: int, repeats: int) -> None:
    """Of one process, and of W processes taken in turns; timm seeds a permutation by the epoch."""
    for epoch in (0, 7):
        got = epoch_order(n, repeats, torch.Generator().manual_seed(epoch)).tolist()
        for ranks in (1, 2, 3):
            samplers = [
                RepeatAugSampler(range(n), ranks, rank, num_repeats=repeats)
                for rank in range(ranks)
            ]
            for sampler in samplers:
                sampler.set_epoch(epoch)
            streams = [list(sampler) for sampler in samplers]
            want = [place for turn in zip(*streams, strict=True) for place in turn]
            # What does not fill a turn of all ranks, timm leaves out, or below 256 adds.
            assert abs(len(want) - len(got)) < ranks
            both = min(len(want), len(got))
            assert got[:both] == want[:both]
            assert ranks > 1 or len(got) == len(want)
    assert len(set(got)) == -(-len(got) // repeats)


def test_without_repeats_an_epoch_is_the_permutation() -> None:
    want = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert torch.equal(epoch_order(300, 1, torch.Generator().manual_seed(1)), want)


def batches(start: int = 0) -> list[Batch]:
    order, draws = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    data = load_dataset("digits", "train").subset(range(40))
    made = train_batches(
        data,
        batch_size=9,
        augment=Augment(kind="crop-flip"),
        order=order,
        draws=draws,
        device="cpu",
        start=start,
        repeats=3,
    )
    return list(made)


def test_each_time_is_augmented_anew() -> None:
    found = batches()
    assert len(found) == batches_per_epoch(40, 9, drop_last=False, repeats=3) == 5
    places = torch.cat([batch.indices for batch in found])
    assert len(places) == 40
    assert torch.equal(places[0:39:3], places[2:39:3])
    first = found[0]
    assert len(set(first.indices.tolist())) == 3
    assert not torch.equal(first.images[0], first.images[1])
    later = batches(start=3)
    assert [one.indices.tolist() for one in later] == [one.indices.tolist() for one in found[3:]]


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_train(tmp_path / "whole", repeated_augment=3)
    small_train(tmp_path / "parts", repeated_augment=3, should_stop=stop_after(4))
    assert_same_run(whole, small_train(tmp_path / "parts", repeated_augment=3))
    plain = small_train(tmp_path / "plain")
    assert log(plain.run_dir)[0]["train_loss"] != log(whole.run_dir)[0]["train_loss"]
