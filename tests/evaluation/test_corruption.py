"""The corruption suite against corrupting by hand: means, their names, and official files."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.corruptions import CORRUPTIONS, MAIN, NAMES, corrupt
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene, summarise
from robustmix.evaluation.suites.clean import Clean
from robustmix.evaluation.suites.corruption import (
    Corruption,
    PreparedCorruption,
    select_corruptions,
)
from robustmix.models.robust_model import RobustModel
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


def test_corruption_suite_equals_corrupting_by_hand() -> None:
    data, model = tiny_images(), tiny_model()
    suite = Corruption(corruptions="gaussian_noise,saturate", severity=(5, 2))
    part = evaluate(model, data, ["clean", suite], seed=3).content.suites["corruption"]
    images = data.pixels.take(torch.arange(len(data)))
    right = []
    for name, severity in itertools.product(("gaussian_noise", "saturate"), (2, 5)):
        made = corrupt(images, name, severity, seed=3, sample_ids=data.sample_ids)
        hit = (model(made.float() / 255).argmax(dim=1) == data.labels).double().numpy()
        metrics = part.condition(f"{name}/{severity}")
        assert metrics["acc"].value == pytest.approx(hit.mean(), abs=1e-12)
        right.append(hit)
    mean = part.metrics["acc_mean_selected2_subset"]
    assert mean.value == pytest.approx(np.mean(right), abs=1e-12)
    # Images repeat across conditions: the interval is over 103 images, not over 412 rows.
    half = 1.959964 * np.mean(right, axis=0).std(ddof=1) / 103**0.5
    assert mean.ci == pytest.approx((np.mean(right) - half, np.mean(right) + half))
    noise, fifth = (part.condition(c)["acc_mean"] for c in ("groups:noise", "by_severity:5"))
    assert noise.value == pytest.approx(np.mean(right[:2]))
    assert fifth.value == pytest.approx(np.mean(right[1::2]))
    assert part.details["source"] == "generated"
    assert not part.details["complete"]


def test_trap_15_means_carry_the_name_of_their_set() -> None:
    """Constructed rows: the main 15 all right, the extra four all wrong."""
    suite = PreparedCorruption(
        requested="all", corruptions=NAMES, severities=(1, 2, 3, 4, 5), source="official",
        profile=None, generator_version=None, frost=None, paired=True, mce_reference=None,
    )  # fmt: skip
    conditions = [f"{name}/{s}" for name in NAMES for s in range(1, 6)]
    extra = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    right = np.array([[not c.startswith(extra)] * 7 for c in conditions])[:, None, :]
    flat = np.full(right.shape, 0.5)
    ones = np.ones((1, 1, 7), dtype=bool)
    samples = Samples(
        sample_ids=tuple("abcdefg"), labels=np.zeros(7, dtype=np.int64), class_names=("a", "b"),
        superclass=None,
        tables={
            "corruption": Table(
                tuple(conditions),
                {"correct": right, "confidence": flat, "nll": flat, "brier": flat, "pred": right},
            ),
            "clean": Table(("clean",), {"correct": ones}),
        },
    )  # fmt: skip
    rows = Rows.of(samples, "corruption", num_classes=2, input_size=(3, 8, 8), seed=0)
    part = summarise(suite, rows)
    assert part.metrics["acc_mean_main15"].value == 1
    assert part.metrics["acc_mean_all19"].value == pytest.approx(15 / 19)
    assert part.metrics["mean_ce_all19"].value == pytest.approx(4 / 19)
    assert part.metrics["drop_all19"].value == pytest.approx(4 / 19)
    assert part.metrics["mce"].value is None
    assert part.details["complete"]
    assert "corruption_acc" not in part.metrics
    subset = summarise(suite, replace(rows, subset=True))
    assert "acc_mean_all19_subset" in subset.metrics
    assert "acc_mean_all19" not in subset.metrics


def test_frost_without_photographs_is_called_approximate() -> None:
    data, model = tiny_images(11), tiny_model()
    report = evaluate(model, data, ["clean", Corruption(corruptions="frost,fog")])
    details = report.content.suites["corruption"].details
    assert (details["approximate"], details["frost"]) == (["frost"], "procedural")
    assert "W-FROST-SUBSTITUTE" in [w.code for w in report.content.warnings]
    report = evaluate(model, data, ["clean", Corruption(corruptions="fog")])
    details = report.content.suites["corruption"].details
    assert (details["approximate"], details["frost"]) == ([], None)
    assert "W-FROST-SUBSTITUTE" not in [w.code for w in report.content.warnings]


def test_all_gives_the_means_that_papers_use() -> None:
    report = evaluate(tiny_model(), tiny_images(5), ["clean", Corruption(corruptions="all")])
    part = report.content.suites["corruption"]
    assert tuple(part.details["corruptions"]) == NAMES
    assert part.details["complete"]
    assert {"acc_mean_main15", "acc_mean_all19", "mean_ce_all19"} <= part.metrics.keys()
    assert part.shown.gated == ["acc_mean_all19"]


def inverted(images: Tensor, severity: int) -> Tensor:
    """Blend images with their negative."""
    return (images.float() * (1 - severity / 5) + (255 - images.float()) * severity / 5).byte()


def test_a_corruption_of_others_is_evaluated_and_changes_no_mean_of_the_benchmark() -> None:
    data, model = tiny_images(29), tiny_model()
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("inverted", inverted, group="weather")
        assert select_corruptions("all") == NAMES
        suite = Corruption(corruptions="inverted,fog", severity=(3,))
        report = evaluate(model, data, ["clean", suite])
        every = Corruption(corruptions="main,inverted", severity=(3,))
        assert every.prepare(Scene(robust=model, data=data, folder=Path())).corruptions == (
            *MAIN,
            "inverted",
        )
    part = report.content.suites["corruption"]
    images = inverted(data.pixels.take(torch.arange(29)), 3).float() / 255
    accuracy = (model(images).argmax(dim=1) == data.labels).double().mean()
    assert part.condition("inverted/3")["acc"].value == pytest.approx(float(accuracy))
    fog = part.condition("fog/3")["acc"].value
    assert fog is not None
    # Its group is remembered, where the corruption itself is not there any more.
    weather = part.condition("groups:weather")["acc_mean"].value
    assert weather == pytest.approx((fog + float(accuracy)) / 2)
    assert part.params["foreign_groups"] == [["inverted", "weather"]]
    assert [(one.kind, one.name) for one in part.origins] == [("corruption", "inverted")]
    assert recompute(report) == []


def test_select_corruptions() -> None:
    assert len(select_corruptions("main")) == 15
    assert len(select_corruptions("extra")) == 4
    assert select_corruptions("all") == select_corruptions("extra,main") == NAMES
    with pytest.raises(UsageError, match="did you mean 'pixelate'"):
        select_corruptions("pixlate")
    with pytest.raises(UsageError, match="no corruption was named"):
        select_corruptions(" ,")
    with pytest.raises(UsageError, match="1 to 5"):
        Corruption(severity=(0,))


def test_recorded_severities_that_do_not_exist_are_refused() -> None:
    params = (
        Corruption(corruptions="fog")
        .prepare(Scene(robust=tiny_model(), data=tiny_images(3), folder=Path()))
        .params
    )
    assert Corruption.read(params).params == params
    damages: list[dict[str, Any]] = [{"severities": [0]}, {"severities": []}, {"source": "x"}]
    for damage in damages:
        with pytest.raises(ValueError, match=r"1 to 5|none of"):
            Corruption.read(params | damage)


def test_a_confusion_matrix_of_many_classes_is_refused_before_any_work() -> None:
    data = replace(tiny_images(3), class_names=tuple(map(str, range(1001))))
    with pytest.raises(UsageError, match="too large to read"):
        Clean(confusion=True).prepare(Scene(robust=tiny_model(), data=data, folder=Path()))


def official_folder(root: Path, clean: Tensor, labels: Tensor) -> None:
    """Write a CIFAR-100-C folder with one file, brighter by one level a severity."""
    folder = root / "CIFAR-100-C"
    folder.mkdir()
    rows = clean.permute(0, 2, 3, 1).numpy()
    blocks = [np.minimum(rows.astype(np.int16) + s, 255).astype(np.uint8) for s in range(1, 6)]
    np.save(folder / "brightness.npy", np.concatenate(blocks))
    np.save(folder / "labels.npy", np.tile(labels.numpy().astype(np.uint8), 5))


@pytest.mark.parametrize("limit", [pytest.param(None, marks=pytest.mark.slow), 300])
def test_official_files_are_paired_by_index(tmp_path: Path, limit: int | None) -> None:
    n = 10_000
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    clean = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    labels = torch.randint(100, (n,), generator=generator)
    official_folder(tmp_path, clean, labels)
    data = ImageSet(
        name="cifar100", split="test", pixels=TensorPixels(clean), labels=labels,
        sample_ids=tuple(f"cifar100/test/{i}" for i in range(n)),
        class_names=tuple(map(str, range(100))), mean=MEAN, std=STD,
    )  # fmt: skip
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x[:, 0, 0, 0].clone())
            return F.pad(x[:, :1, 0, 0], (0, 99))

    robust = RobustModel(
        Watch(), mean=(1e-9,) * 3, std=(1.0,) * 3, num_classes=100, input_size=(3, 32, 32)
    )
    suite: Any = Corruption(corruptions="brightness", severity=(3,))
    report = evaluate(
        robust, data, ["clean", suite], data_dir=tmp_path, batch_size=2048, limit=limit
    )
    part = report.content.suites["corruption"]
    assert part.status == "ok"
    assert (part.details["source"], part.details["generator_version"]) == ("official", None)
    assert report.samples is not None
    chosen = [int(i.rpartition("/")[2]) for i in report.samples.sample_ids]
    padded = len(chosen) + -len(chosen) % 8
    got = torch.cat(seen)[-padded:][: len(chosen)]
    want = (clean[chosen, 0, 0, 0].int() + 3).clamp(max=255).float() / 255
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
