"""The suite shift: every number against the network itself, and all that a suite must do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robustmix import evaluate
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.shift.conditions import CIFAR_C_BAR
from robustmix.data.shift.registry import SHIFTS, place_of
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.recompute import recompute
from robustmix.metrics.metric import Metric
from robustmix.pages.page import page_html
from robustmix.report.report import Report
from robustmix.report.samples import Samples
from tests.shift.made import (
    TRANSFORM,
    cifar10_1,
    cifar10_2,
    cifar_c_bar,
    cifar_like,
    cifar_model,
    folders,
    imagenet_like,
    imagenet_model,
    logits_of,
    objectnet,
    rows_of,
)

WNIDS = imagenet_wnids()
OF_A = (6, 11, 134, 988)
LABELS = [6, 11, 134, 988, 6, 6, 0, 1, 2, 517, 11, 988]


def number(report: Report, path: str) -> Metric:
    found = report.content.suites["shift"].number(path)
    assert found is not None, path
    return found


def images_of(name: str, data_dir: Path, like: ImageSet) -> ImageSet:
    place = place_of(name, data_dir)
    assert place is not None
    return SHIFTS[name](name, place, like).images  # type: ignore[union-attr]


def confident(data: ImageSet) -> ImageSet:
    """Label images as ``imagenet_model`` predicts them among ``OF_A``, some of them otherwise."""
    logits = logits_of(imagenet_model(), data.pixels.take(torch.arange(len(data))))
    best = np.array(OF_A)[logits[:, OF_A].argmax(axis=1)]
    wanted = np.where(np.arange(len(data)) % 3 == 0, data.labels.numpy(), best)
    wanted[6:9] = [0, 1, 2]  # of classes that the set lacks
    return replace(data, labels=torch.from_numpy(wanted))


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageSet, Report]:
    """ImageNet-A and -V2 beside clean images."""
    root = tmp_path_factory.mktemp("natural")
    folders(root / "imagenet-a", {WNIDS[c]: 4 for c in OF_A})
    folders(root / "imagenetv2-top-images-format-val", {"9": 2, "10": 3, "100": 2}, ".jpeg")
    data = confident(imagenet_like(LABELS))
    report = evaluate(imagenet_model(), data, ["shift"], data_dir=root, out=root / "out")
    return root, data, report


def test_the_sets_that_lie_in_the_folder_are_taken(
    natural: tuple[Path, ImageSet, Report],
) -> None:
    _, _, report = natural
    part = report.content.suites["shift"]
    assert part.status == "ok", part.reason
    assert [one["name"] for one in part.params["sets"]] == [
        "imagenet-a",
        "imagenet-v2-top-images",
    ]
    assert part.shown.gated == ["acc_slice[imagenet-a]", "acc_all[imagenet-v2-top-images]"]


def test_slice_and_all_outputs_by_hand(natural: tuple[Path, ImageSet, Report]) -> None:
    root, data, report = natural
    images = images_of("imagenet-a", root, data)
    model = imagenet_model()

    def right(of: ImageSet, keep: NDArray[Any]) -> tuple[list[bool], list[bool]]:
        logits = logits_of(model, of.pixels.take(torch.arange(len(of))))[keep]
        labels = of.labels.numpy()[keep]
        sliced = np.array(OF_A)[logits[:, OF_A].argmax(axis=1)]
        return (sliced == labels).tolist(), (logits.argmax(axis=1) == labels).tolist()

    sliced, every = right(images, np.arange(len(images)))
    clean_sliced, clean_every = right(data, np.isin(data.labels.numpy(), OF_A))
    assert 5 < len(clean_sliced) < 12
    for name, values in (
        ("acc_slice", sliced),
        ("acc_all", every),
        ("clean_acc_slice", clean_sliced),
        ("clean_acc_all", clean_every),
    ):
        found = number(report, f"{name}[imagenet-a]")
        assert found.value == np.mean(values), name
        assert found.n == len(values), name
    assert np.mean(sliced) > np.mean(every)  # else the test could not tell them apart
    drop = number(report, "drop_slice[imagenet-a]")
    assert drop.value == pytest.approx(np.mean(clean_sliced) - np.mean(sliced))
    assert drop.ci is not None


def test_calibration_is_that_of_the_sliced_softmax(
    natural: tuple[Path, ImageSet, Report],
) -> None:
    root, data, report = natural
    images = images_of("imagenet-a", root, data)
    logits = logits_of(imagenet_model(), images.pixels.take(torch.arange(len(images))))[:, OF_A]
    softmax = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    surest = softmax.max(axis=1)
    right = np.array(OF_A)[softmax.argmax(axis=1)] == images.labels.numpy()
    bins = np.ceil(surest * 15).astype(int)
    ece = sum(abs((right[bins == b] - surest[bins == b]).sum()) for b in set(bins)) / len(right)
    assert number(report, "ece_15_slice[imagenet-a]").value == pytest.approx(ece)
    assert number(report, "confidence_slice[imagenet-a]").value == pytest.approx(surest.mean())


def test_v2_is_of_all_outputs(natural: tuple[Path, ImageSet, Report]) -> None:
    root, data, report = natural
    images = images_of("imagenet-v2-top-images", root, data)
    logits = logits_of(imagenet_model(), images.pixels.take(torch.arange(len(images))))
    found = number(report, "acc_all[imagenet-v2-top-images]")
    assert found.value == (logits.argmax(axis=1) == images.labels.numpy()).mean()
    clean = report.content.suites["clean"].metrics["top1"]
    assert number(report, "clean_acc_all[imagenet-v2-top-images]").value == clean.value
    part = report.content.suites["shift"]
    assert part.number("acc_slice[imagenet-v2-top-images]") is None


def test_rows_survive_the_file_and_give_the_numbers_again(
    natural: tuple[Path, ImageSet, Report],
) -> None:
    root, _, report = natural
    again = Report.load(root / "out")
    assert recompute(again) == []
    table = again.samples.tables["shift"]  # type: ignore[union-attr]
    assert table.added is not None
    assert len(table.added) == 4 * 4 + 7
    frame = again.samples.to_frame()  # type: ignore[union-attr]
    of_a = frame[(frame.condition == "imagenet-a") & frame.sample_id.str.startswith("imagenet-a/")]
    assert of_a.correct.mean() == number(report, "acc_slice[imagenet-a]").value


def test_clean_rows_that_the_clean_logits_deny_are_noticed(
    natural: tuple[Path, ImageSet, Report],
) -> None:
    root, data, _ = natural
    again = Report.load(root / "out")
    assert again.samples is not None
    table = again.samples.tables["shift"]
    # One image's row in the place of another's of its class contradicts nothing but the logits.
    labels = data.labels.tolist()
    (one, other), *_ = (
        (i, j)
        for i in range(len(labels))
        for j in range(i)
        if labels[i] == labels[j] and labels[i] in OF_A
    )
    changed = {name: np.array(values) for name, values in table.columns.items()}
    for values in changed.values():
        values[0, 0, one] = values[0, 0, other]
    again.samples.tables["shift"] = replace(table, columns=changed)
    with pytest.raises(IntakeError, match="not scored by the clean logits"):
        recompute(again)


def test_other_images_under_the_sets_name_are_noticed(
    natural: tuple[Path, ImageSet, Report],
) -> None:
    root, _, _ = natural
    again = Report.load(root / "out")
    assert again.samples is not None
    table = again.samples.tables["shift"]
    assert table.added is not None
    ids = ("imagenet-a/shift/none.jpg", *table.added.sample_ids[1:])
    again.samples.tables["shift"] = replace(table, added=replace(table.added, sample_ids=ids))
    with pytest.raises(IntakeError, match="not those of the report"):
        recompute(again)


def test_objectnet_has_two_denominators_and_no_counterpart(tmp_path: Path) -> None:
    counts = {"alarm_clock": 5, "banana": 4, "zip_tie": 6}
    data = imagenet_like([6, 11])
    everything = list(range(1000))
    objectnet(
        tmp_path / "objectnet-1.0",
        {"alarm_clock": everything[:600], "banana": everything[600:990]},
        counts,
    )
    report = evaluate(imagenet_model(), data, ["shift"], data_dir=tmp_path)
    images = images_of("objectnet", tmp_path, data)
    pred = logits_of(imagenet_model(), images.pixels.take(torch.arange(15))).argmax(axis=1)
    stands_for = np.where(pred < 600, 0, np.where(pred < 990, 1, -1))
    right = stands_for == images.labels.numpy()
    assert right[:9].any()
    narrow = number(report, "acc_all_of_2_classes[objectnet]")
    wide = number(report, "acc_all_of_3_classes[objectnet]")
    assert (narrow.value, narrow.n) == (right[:9].mean(), 9)
    assert (wide.value, wide.n) == (right[:9].sum() / 15, 15)
    drop = number(report, "drop_all_of_2_classes[objectnet]")
    assert drop.value is None
    assert "no clean counterpart" in str(drop.reason)
    assert recompute(report) == []


def test_c_bar_gives_the_mean_error_over_its_conditions(tmp_path: Path) -> None:
    data = cifar_like()
    cifar_c_bar(tmp_path / "CIFAR-10-C-Bar", data, CIFAR_C_BAR)
    cifar10_2(tmp_path)
    report = evaluate(cifar_model(), data, ["shift"], data_dir=tmp_path)
    part = report.content.suites["shift"]
    assert part.status == "ok", part.reason
    rows, model = rows_of(data), cifar_model()
    errors = {}
    for place, name in enumerate(CIFAR_C_BAR):
        for s in range(1, 6):
            dark = np.maximum(rows, 12 * s + place) - np.uint8(12 * s + place)
            logits = logits_of(model, torch.from_numpy(dark).permute(0, 3, 1, 2))
            errors[name, s] = float((logits.argmax(axis=1) != data.labels.numpy()).mean())
            assert number(report, f"acc[{name}/{s}]").value == pytest.approx(1 - errors[name, s])
    mean = number(report, "mean_ce[cifar10-c-bar]")
    assert mean.value == pytest.approx(np.mean(list(errors.values())))
    assert mean.n == len(data)
    clean = logits_of(model, data.pixels.take(torch.arange(60))).argmax(axis=1)
    lost = (clean == data.labels.numpy()).mean() - 1 + np.mean(list(errors.values()))
    assert number(report, "drop[cifar10-c-bar]").value == pytest.approx(lost)
    assert number(report, "acc_all[cifar10.2]").n == 40
    assert number(report, "acc_mean[by_corruption:ripple]").value == pytest.approx(
        1 - np.mean([errors["ripple", s] for s in range(1, 6)])
    )
    (table,) = part.tables
    assert [row[:2] for row in table.rows] == [["cifar10.2", 40], ["cifar10-c-bar", 60]]
    text = page_html([report]).replace("<wbr>", "")
    assert "Accuracy under corruptions (shift)" in text
    assert "acc_all[cifar10.2]" in text
    assert recompute(report) == []


def test_without_the_counterpart_there_is_accuracy_and_no_drop(tmp_path: Path) -> None:
    data = cifar10_1(tmp_path)
    report = evaluate(cifar_model(), "cifar10.1-v6", ["shift"], data_dir=tmp_path)
    assert report.content.dataset.name == "cifar10.1-v6"
    assert recompute(report) == []
    logits = logits_of(cifar_model(), data.pixels.take(torch.arange(len(data))))
    right = logits.argmax(axis=1) == data.labels.numpy()
    assert number(report, "acc_all[cifar10.1-v6]").value == right.mean()
    for name in ("drop_all", "clean_acc_all"):
        found = number(report, f"{name}[cifar10.1-v6]")
        assert found.value is None
        assert found.reason == (
            "the clean counterpart, the test images of cifar10, was not evaluated"
        )


def test_a_set_is_evaluated_by_itself_with_all_its_data_sets_classes(tmp_path: Path) -> None:
    root = tmp_path / "imagenetv2-top-images-format-val"
    folders(root, {"9": 2, "10": 3, "100": 2}, ".jpeg")
    report = evaluate(imagenet_model(), "imagenet-v2-top-images", data_dir=tmp_path)
    assert report.samples is not None
    assert sorted(report.samples.labels.tolist()) == [9, 9, 10, 10, 10, 100, 100]
    assert report.samples.class_names == WNIDS
    assert report.content.dataset.transform == TRANSFORM
    assert any(one.code == "W-SHIFT" for one in report.content.warnings)


@pytest.mark.parametrize(
    ("name", "split", "says"),
    [
        ("objectnet", "test", "cannot be evaluated by itself"),
        ("cifar10-c-bar", "test", "cannot be evaluated by itself"),
        ("imagenet-a", "train", "for evaluation alone"),
    ],
)
def test_what_no_set_is_by_itself(name: str, split: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        load_dataset(name, split, data_dir=tmp_path)


@pytest.mark.parametrize("limit", [10, 0.5])
def test_a_limit_is_one_of_each_set_and_is_said(limit: float, tmp_path: Path) -> None:
    cifar10_1(tmp_path)
    report = evaluate(cifar_model(), cifar_like(), ["shift"], data_dir=tmp_path, limit=limit)
    found = number(report, "acc_all[cifar10.1-v6]")
    assert found.n == (10 if limit == 10 else 25)
    assert f"{found.n} of 50 images" in str(found.note)
    assert recompute(report) == []


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        ("cifar10.2-v4", "did you mean"),
        ("imagenet-a", "classes of imagenet-1k"),
        ("cifar10.2,cifar10.2", "named twice"),
        ("cifar10-c", "read by the suite corruption"),
        ("", "no shift set of cifar10 lies"),
    ],
)
def test_what_cannot_be_asked_for(shift: str, says: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"shift": shift} if shift else {}
    with pytest.raises(UsageError, match=says):
        evaluate(cifar_model(), cifar_like(), ["shift"], data_dir=tmp_path, **options)


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"no cifar102_test\.npz"):
        evaluate(cifar_model(), cifar_like(), ["shift"], data_dir=tmp_path, shift="cifar10.2")


def test_results_do_not_depend_on_the_batch_and_clean_images_are_not_run_again(
    tmp_path: Path,
) -> None:
    cifar10_1(tmp_path)
    cifar10_2(tmp_path)
    a, b = (
        evaluate(cifar_model(), cifar_like(), ["shift"], data_dir=tmp_path, batch_size=size)
        for size in (7, 64)
    )
    assert a.content.suites["shift"].conditions == b.content.suites["shift"].conditions
    assert a.samples is not None
    clean = a.samples.tables["clean"].at("clean")
    beside = a.samples.tables["shift"].at("cifar10.2")
    for name in ("pred", "correct", "nll"):
        assert np.array_equal(beside[name][:60], clean[name])


def test_a_comparison_is_paired_on_the_sets_own_images(tmp_path: Path) -> None:
    cifar10_1(tmp_path)
    base, other = (
        evaluate(cifar_model(seed), cifar_like(), ["shift"], data_dir=tmp_path, name=str(seed))
        for seed in (0, 1)
    )
    compared = compare(base, other)
    (row,) = (one for one in compared.comparisons[0].metrics if "acc_all[cifar10.1-v6]" in str(one))
    both = [number(r, "acc_all[cifar10.1-v6]").value for r in (base, other)]
    assert row.delta == pytest.approx(both[1] - both[0])  # type: ignore[operator]
    assert row.n == 50
    judged = check(other, base)
    assert any(rule.path == "shift.acc_all[cifar10.1-v6]" for rule in judged.rules)
    assert judged.exit_code == 1  # the other network guesses


def test_samples_of_a_shift_suite_are_bounded_to_their_labels(tmp_path: Path) -> None:
    cifar10_1(tmp_path)
    report = evaluate(cifar_model(), cifar_like(), ["shift"], data_dir=tmp_path, out=tmp_path / "o")
    assert report.samples is not None
    loaded = Samples.load(tmp_path / "o" / "samples.npz")
    assert loaded.tables["shift"].added is not None
    assert loaded.rows == report.samples.rows == 60 + 110


@pytest.mark.filterwarnings("error")
def test_a_limit_that_leaves_no_known_object_gives_no_numbers_of_them(tmp_path: Path) -> None:
    objectnet(tmp_path / "objectnet-1.0", {"banana": [954]}, {"banana": 1, "zip_tie": 40})
    data = imagenet_like(LABELS)
    report = evaluate(imagenet_model(), data, ["shift"], data_dir=tmp_path, limit=1)
    for name in ("acc", "ece_15", "confidence", "nll"):
        found = number(report, f"{name}_all_of_1_classes[objectnet]")
        assert found.value is None
        assert found.reason == "no samples"
    assert number(report, "acc_all_of_2_classes[objectnet]").n == 1
    assert recompute(report) == []
