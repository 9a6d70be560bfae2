"""What a run costs, against hand-made sums and torch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from robustmix.models.names import ARCHS, default_stem
from robustmix.studies.cost import SPEED, cost_of, flops_of, total_cost
from robustmix.studies.grid import study_runs
from robustmix.studies.study import study_of
from robustmix.training.resolve import resolve_recipe


def test_the_published_example_of_adautomix() -> None:
    """50,000 images x 200 epochs x 12 passes x 1.111 GFLOP: 0.12 hours at 300 TFLOP/s."""
    cost = cost_of(resolve_recipe("cifar100-resnet18-adautomix"))
    assert cost.steps == 200 * 500
    assert cost.passes == 50_000 * 200 * 12
    assert cost.flops == pytest.approx(50_000 * 200 * 12 * 1.111e9, rel=1e-3)
    assert cost.hours == pytest.approx(1.33e17 / SPEED / 3600, rel=1e-2)


def test_two_images_cost_nine_passes_and_a_limit_fewer_steps() -> None:
    given = {"method.mix_samples": 2, "limit_train": 1000, "epochs": 2}
    cost = cost_of(resolve_recipe("cifar100-resnet18-adautomix", overrides=given))
    assert (cost.steps, cost.passes) == (20, 1000 * 2 * 9)


def test_imagenet_is_counted_at_the_side_it_is_trained_at() -> None:
    cost = cost_of(resolve_recipe("imagenet-1k-resnet50-automix"))
    assert cost.flops == pytest.approx(1_281_167 * 100 * 9 * 8.178e9, rel=1e-3)


def test_what_nobody_counted_is_unknown() -> None:
    assert flops_of("torchvision:resnet18", 224) is None
    folder = resolve_recipe("cifar100-resnet18-mixup", overrides={"dataset": "folder:x"})
    assert cost_of(folder).steps is None


def test_a_run_in_two_cells_is_counted_once() -> None:
    grid = {"dataset": "digits", "arch": "resnet8", "method": "mixup"}
    study = study_of(
        {"grid": grid, "variant": [{"row": "again", "method": "mixup"}]}, "twice", "twice.toml"
    )
    runs = study_runs(study)
    assert len(runs) == 2
    assert total_cost(runs) == cost_of(runs[0].recipe)


def counted(arch: str, side: int) -> int:
    with torch.device("meta"):  # the largest would take minutes with numbers
        stem = default_stem(arch, (3, side, side))
        network = ARCHS[arch](100, stem, (side, side), 0.0).eval()
        images = torch.zeros(1, 3, side, side)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(images)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(("arch", "side"), [("resnet8", 32), ("resnet18", 32), ("deit_small", 32)])
def test_flops_are_torchs(arch: str, side: int) -> None:
    assert flops_of(arch, side) == counted(arch, side)


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 160, 224])
@pytest.mark.parametrize("arch", ARCHS)
def test_all_flops_are_torchs(arch: str, side: int) -> None:
    assert flops_of(arch, side) == counted(arch, side)


def test_every_architecture_is_counted() -> None:
    assert [arch for arch in ARCHS if flops_of(arch, 224) is None] == []
