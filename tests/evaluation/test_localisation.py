"""The localisation suite on networks whose maps are known, and on real pictures against loops."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustmix.arrays import Array
from robustmix.cli.app import run
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation import resume_store
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.forecast import forecast
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.localisation import (
    MAPS,
    Localisation,
    PreparedLocalisation,
    bound_name,
    score_maps,
)
from robustmix.metrics.intervals import wilson
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.rng import subset_positions
from robustmix.saliency.cam import ClassMaps
from tests.data.sets.pictures import picture, write
from tests.evaluation.test_engine import Stop
from tests.evaluation.tiny import tiny_model
from tests.saliency import localisers

SAMPLE = Path(__file__).parents[3] / "shared/data/imagenet_sample/imagenet-sample.zip"
SIDE = 32


class Colours(nn.Module):
    """Its maps are the colours themselves; class c is the mean of colour c, times 4."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(3, 3)
        with torch.no_grad():
            self.maps.weight.copy_(torch.eye(3)[:, :, None, None])
            self.fc.weight.copy_(4 * torch.eye(3))
            self.fc.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.maps(x)).flatten(1))  # type: ignore[no-any-return]


def colours(side: int = SIDE, net: nn.Module | None = None) -> RobustModel:
    return RobustModel(
        net or Colours(), mean=(0, 0, 0), std=(1, 1, 1), num_classes=3, input_size=(3, side, side)
    )


def blocks(n: int = 9) -> tuple[ImageSet, list[tuple[int, int, int, int]]]:
    """Images with a block in each colour; that of the true class is the object, ends exclusive."""
    rng = np.random.default_rng(0)
    images = torch.zeros(n, 3, SIDE, SIDE, dtype=torch.uint8)
    labels, boxes = torch.arange(n) % 3, []
    for place in range(n):
        for colour in range(3):
            x, y = (int(v) for v in rng.integers(2, 18, 2))
            wide, tall = (int(v) for v in rng.integers(4, 12, 2))
            images[place, colour, y : y + tall, x : x + wide] = 200
            if colour == labels[place]:
                boxes.append((x, y, x + wide, y + tall))
    data = ImageSet(
        name="blocks",
        split="test",
        pixels=TensorPixels(images),
        labels=labels,
        sample_ids=tuple(f"blocks/test/{i}" for i in range(n)),
        class_names=("red", "green", "blue"),
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    return data, boxes


def listed(path: Path, data: ImageSet, boxes: list[tuple[int, int, int, int]]) -> Path:
    lines = [
        f"{i},{','.join(map(str, box))}" for i, box in zip(data.sample_ids, boxes, strict=True)
    ]
    path.write_text("\n".join(["path,x0,y0,x1,y1", *lines]) + "\n")
    return path


def masked(folder: Path, data: ImageSet, boxes: list[tuple[int, int, int, int]]) -> Path:
    (folder / "test").mkdir(parents=True)
    for sample_id, (left, top, right, bottom) in zip(data.sample_ids, boxes, strict=True):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(folder / "test" / f"{sample_id.rpartition('/')[2]}.png")
    ignored = np.zeros((SIDE, SIDE), dtype=np.uint8)
    ignored[27:32, :3] = 255  # where no block reaches
    Image.fromarray(ignored).save(folder / "test" / "0_ignore.png")
    return folder


def part_of(report: Report) -> SuitePart:
    part = report.content.suites["localisation"]
    assert part.status == "ok", part.reason
    return part


def value(part: SuitePart, path: str) -> float:
    metric = part.number(path)
    assert metric is not None
    assert metric.value is not None
    return metric.value


@pytest.fixture
def known(tmp_path: Path) -> tuple[ImageSet, Localisation]:
    data, boxes = blocks()
    path = listed(tmp_path / "boxes.csv", data, boxes)
    return data, Localisation(boxes=path, masks=masked(tmp_path / "masks", data, boxes))


def test_a_planted_map_is_found_to_the_pixel(known: tuple[ImageSet, Localisation]) -> None:
    """The map of the true class is its block, 7 times as large: every box is the true one."""
    data, suite = known
    report = evaluate(colours(), data, ["clean", replace(suite, iou=(Fraction(1),))])
    part = part_of(report)
    assert value(part, "maxboxacc_v2_iou100") == value(part, "maxboxacc[iou100]") == 1
    assert value(part, "pxap") > 0.99
    # Ignored pixels count nowhere: of the first picture 5x3 are, 49 times as many in the map.
    pixels = sum(tables(report)[name][0, 0].sum(axis=1) for name in ("positive", "negative"))
    assert pixels.tolist() == [224**2 - 49 * 15, *[224**2] * 8]
    assert part.params["method"] == "cam"
    assert [example["iou"] for example in part.details["examples"]] == [1] * 8
    # The prediction plays no part: its bias makes it blue far too often.
    assert data.labels.tolist() == [0, 1, 2] * 3


def test_maps_of_other_classes_are_not_taken(known: tuple[ImageSet, Localisation]) -> None:
    data, suite = known
    wrong = replace(data, labels=(data.labels + 1) % 3)
    part = part_of(evaluate(colours(), wrong, ["clean", suite]))
    assert value(part, "maxboxacc_v2") < 0.5
    assert value(part, "pxap") < 0.5


def test_gradcam_of_the_same_network(known: tuple[ImageSet, Localisation]) -> None:
    data, suite = known
    with pytest.raises(UsageError, match="no gradcam") as caught:
        evaluate(colours(), data, ["clean", replace(suite, map_method="gradcam")])
    assert caught.value.code == "E-MAP-METHOD"
    from robustmix.models.registry import build_model

    torch.manual_seed(0)
    net = build_model("resnet8", num_classes=3, input_size=(3, SIDE, SIDE)).eval()
    with torch.no_grad():
        net.get_parameter("fc.weight").mul_(10)
    robust = colours(net=net)
    images, labels = data.pixels.take(torch.arange(5)).float() / 255, data.labels[:5]
    cam, gradcam = (ClassMaps(robust, method)(images, labels) for method in ("cam", "gradcam"))
    # The gradient of a mean is the same everywhere: what is left of the difference is the sign.
    assert torch.allclose(cam.relu() / cam[0].numel(), gradcam, rtol=1e-4, atol=1e-7)
    assert (cam < 0).any()
    part = part_of(evaluate(robust, data, ["clean", replace(suite, map_method="gradcam")]))
    assert part.params["method"] == "gradcam"
    assert "gradcam" in part.shown.note
    told = forecast(prepare(robust, data, ["clean", suite]), batch_size=4)
    assert "localisation" in str(told)


def test_a_class_activation_map_s_mean_is_the_logit_but_for_the_bias() -> None:
    data, _ = blocks(4)
    images = data.pixels.take(torch.arange(4)).float() / 255
    for robust in (colours(), colours(net=named_network())):
        for label in range(3):
            labels = torch.full((4,), label)
            maps = ClassMaps(robust, "cam")(images, labels)
            bias = robust.net.get_parameter("fc.bias")[label]
            logits = robust(images)[:, label].double()
            assert torch.allclose(maps.mean(dim=(1, 2)), logits - bias, atol=1e-5)


def named_network() -> nn.Module:
    from robustmix.models.registry import build_model

    torch.manual_seed(1)
    net = build_model("resnet8", num_classes=3, input_size=(3, SIDE, SIDE)).eval()
    with torch.no_grad():
        net.get_parameter("fc.bias").copy_(torch.tensor([1.0, -2.0, 3.0]))
    return net


def test_a_class_map_chooses_the_network_s_outputs() -> None:
    """Output 2 stands for class 0; output 0 for none."""
    data, _ = blocks(3)
    images, labels = data.pixels.take(torch.arange(3)).float() / 255, torch.zeros(3).long()
    mapped = RobustModel(
        Colours(), mean=(0, 0, 0), std=(1, 1, 1), num_classes=2, input_size=(3, SIDE, SIDE),
        class_map=[-1, 1, 0],
    )  # fmt: skip
    assert torch.equal(ClassMaps(mapped)(images, labels), ClassMaps(colours())(images, labels + 2))


def test_a_network_without_such_maps_is_refused(known: tuple[ImageSet, Localisation]) -> None:
    """The tiny network pools to 4x4 and weighs the places."""
    data, suite = known
    with pytest.raises(UsageError, match="no map of a class can be made: Net does not end"):
        evaluate(tiny_model(classes=3), data, ["clean", suite])


def test_maps_are_enlarged_before_they_are_scaled() -> None:
    maps = torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[3.0, 3.0], [3.0, 3.0]]], dtype=torch.float64)
    broken = torch.tensor([[[0.0, torch.nan], [1, 2]], [[0, torch.inf], [1, 2]]]).double()
    scores = score_maps(torch.cat([maps, broken]))
    assert scores.shape == (4, 224, 224)
    assert (scores[0].min(), scores[0].max()) == (0, 1)
    assert not scores[1:].any()
    # Bicubic overshoots, so the corner's own value is not the largest.
    assert scores[0].argmax() != 224 * 224 - 1
    assert score_maps(3 * maps[:1] - 7)[0] == pytest.approx(scores[0])


def test_every_number_is_what_its_rows_give_and_every_place_shows_it(
    known: tuple[ImageSet, Localisation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, suite = known
    blurred = replace(data, pixels=TensorPixels(noisy(data)))
    report = evaluate(colours(), blurred, ["clean", suite], out=tmp_path / "a", seed=1)
    assert recompute(Report.load(tmp_path / "a")) == []
    part = part_of(report)
    note = part.metrics["maxboxacc_v2"].note or ""
    assert "threshold chosen on the scored test images themselves (an oracle)" in note
    assert "all contours; mean over IoU 0.3, 0.5, 0.7" in note
    assert "the largest contour; IoU 0.5" in (part.metrics["maxboxacc"].note or "")
    assert PreparedLocalisation.__name__ not in json.dumps(part.params)
    assert str(tmp_path) not in report.content.model_dump_json()
    bounds = [bound_name(bound) for bound in suite.iou]
    mean = np.mean([value(part, f"maxboxacc_v2[{name}]") for name in bounds])
    assert value(part, "maxboxacc_v2") == pytest.approx(mean)
    for curve in part.curves:
        along = [metric.value or 0 for metric in part.along(curve)]
        assert max(along) <= value(part, f"maxboxacc_v2[{curve.name}]")
        low, high = part.along(curve)[5].ci or (0, 0)
        assert (low, high) == wilson(round(9 * along[5]), 9)
    for command in ("show", "md"):
        assert run(["report", command, str(tmp_path / "a")]) == 0
        assert "maxboxacc" in capsys.readouterr().out
    assert run(["report", "validate", str(tmp_path / "a")]) == 0
    assert run(["report", "html", str(tmp_path / "a"), "--out", str(tmp_path / "a.html")]) == 0
    page = unescape((tmp_path / "a.html").read_text().replace("<wbr>", ""))
    for said in ("Localisation", "maxboxacc_v2", "Maps of the true class", "best threshold"):
        assert said in page
    assert page.count("<figure") == 2
    other = evaluate(colours(net=named_network()), blurred, ["clean", suite], out=tmp_path / "b")
    compared = compare(report, other)
    (row,) = (r for r in compared.comparisons[0].metrics if "maxboxacc_v2" in r.path)
    assert row.verdict != "not tested"
    assert check(report, report).verdict == "pass"
    found = {rule.path: rule.outcome for rule in check(other, report).rules}
    assert found["localisation.maxboxacc_v2"] == "fail"


def noisy(data: ImageSet) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    images = data.pixels.take(torch.arange(len(data))).int()
    coarse = 150 * torch.rand(len(images), 3, 4, 4, generator=generator)
    noise = nn.functional.interpolate(coarse, images.shape[2:], mode="bilinear")
    return (images + noise).clamp(max=255).to(torch.uint8)


def test_rows_do_not_depend_on_the_batch_shards_join_and_a_stopped_run_goes_on(
    known: tuple[ImageSet, Localisation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, suite = known
    robust = colours(net=named_network())

    def made(**more: object) -> Report:
        return evaluate(robust, data, ["clean", suite], **more)  # type: ignore[arg-type]

    whole = made(out=tmp_path / "whole")
    for other in (made(batch_size=1), made(batch_size=5)):
        for name, column in tables(whole).items():
            assert np.array_equal(column, tables(other)[name]), name
    joined = merge_reports([made(shard=f"{i}/3") for i in (1, 2, 3)])
    assert joined.content.suites["localisation"].metrics == part_of(whole).metrics
    for name, column in tables(whole).items():
        assert np.array_equal(column, tables(joined)[name]), name
    some = part_of(made(limit=5))
    assert some.metrics["maxboxacc_v2"].n == 5
    monkeypatch.setattr(resume_store, "BLOCK", 4)
    monkeypatch.setattr("robustmix.evaluation.engine.BLOCK", 4)
    stopped = made(out=tmp_path / "stopped", should_stop=Stop(7), batch_size=2)
    assert stopped.content.run.status == "interrupted"
    done = made(out=tmp_path / "stopped", resume=True)
    assert done.content.run.resumed_units > 3
    for name, column in tables(whole).items():
        assert np.array_equal(column, tables(done)[name]), name


def tables(report: Report) -> dict[str, Array]:
    assert report.samples is not None
    return dict(report.samples.tables["localisation"].columns)


def test_rows_that_no_map_can_have_are_refused(
    known: tuple[ImageSet, Localisation], tmp_path: Path
) -> None:
    data, suite = known
    report = evaluate(colours(), data, ["clean", suite], out=tmp_path)
    assert report.samples is not None
    table = report.samples.tables["localisation"]
    assert table.conditions == (MAPS,)
    changes: list[tuple[str, Callable[[Array], Array]]] = [
        ("iou", lambda column: column + 1),
        ("iou_largest", lambda column: column - 30_001),
        ("iou", lambda column: column * 0),
        ("box", lambda column: column[..., :3]),
        ("positive", lambda column: column[..., 1:]),
        ("truth", lambda column: column[..., 0]),
        ("truth", lambda column: column - 300),
        ("map", lambda column: column[..., 1:]),
    ]
    for name, change in changes:
        forged = replace(table, columns={**table.columns, name: change(table.columns[name])})
        samples = replace(report.samples, tables={**report.samples.tables, "localisation": forged})
        samples.save(tmp_path / "samples.npz")
        with pytest.raises(IntakeError, match="record is damaged"):
            recompute(Report(content=report.content, samples=samples))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    data, boxes = blocks(4)
    with pytest.raises(IntakeError, match="where the objects are in blocks is not known") as caught:
        evaluate(colours(), data, ["clean", "localisation"])
    assert caught.value.code == "E-BOXES"
    assert "--boxes" in (caught.value.hint or "")
    path = listed(tmp_path / "boxes.csv", data, boxes)
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(IntakeError, match="no box for 1 of 4 samples"):
        evaluate(colours(), data, ["clean", Localisation(boxes=path)])
    chosen = {s: subset_positions(s, data.sample_ids, 2) for s in range(20)}
    seed = next(s for s, places in chosen.items() if places is not None and 3 not in places)
    asked: list[str | Suite] = ["clean", Localisation(boxes=path)]
    part = part_of(evaluate(colours(), data, asked, limit=2, seed=seed))
    assert part.metrics["maxboxacc"].n == 2
    other = next(s for s, places in chosen.items() if places is not None and 3 in places)
    lacking = evaluate(colours(), data, asked, limit=2, seed=other)
    assert "no box for 1 of 2 samples" in (lacking.content.suites["localisation"].reason or "")
    masks = masked(tmp_path / "masks", data, boxes)
    alone = part_of(evaluate(colours(), data, ["clean", Localisation(masks=masks)]))
    assert list(alone.metrics) == alone.shown.gated == ["pxap"]
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"threshold_step": 0.0}, "E-THRESHOLD"),
        ({"threshold_step": 0.0001}, "E-THRESHOLD"),
        ({"iou": (Fraction(1, 3),)}, "E-IOU"),
        ({"iou": ()}, "E-IOU"),
        ({"iou": (Fraction(3, 2),)}, "E-IOU"),
    ]
    for options, code in refusals:
        with pytest.raises(UsageError) as refused:
            Localisation(**options)
        assert refused.value.code == code


def test_thresholds_are_further_apart_if_asked(known: tuple[ImageSet, Localisation]) -> None:
    data, suite = known
    coarse = replace(suite, threshold_step=0.5, iou=(Fraction(1, 2),))
    data = replace(data, pixels=TensorPixels(noisy(data))).subset([0, 1, 2, 3])
    fine, few = (part_of(evaluate(colours(), data, ["clean", one])) for one in (suite, coarse))
    assert value(few, "best_threshold[iou50]") in (0, 0.5)
    # Over other IoUs it is another number, and has another name.
    assert few.shown.headline == ["maxboxacc_v2_iou50", "maxboxacc", "pxap"]
    assert value(few, "maxboxacc_v2_iou50") == value(few, "maxboxacc_v2[iou50]")
    assert few.params["step"] == 0.5
    assert value(few, "maxboxacc") <= value(fine, "maxboxacc")


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of ImageNet is not here")
def test_real_pictures_against_the_loops(tmp_path: Path) -> None:
    """Pictures of many shapes with made boxes: squashed to 224x224, all else in plain loops."""
    rng, made, lines = np.random.default_rng(3), {}, []
    with zipfile.ZipFile(SAMPLE) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))[::60][:3]
        for number, name in enumerate(names):
            path = tmp_path / "set" / "test" / f"c{number}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True)
            path.write_bytes(archive.read(name))
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            wide, high = picture.size
            boxes = []
            for _ in range(1 + number % 2):
                x, y = (int(rng.integers(0, side // 2)) for side in (wide, high))
                box = (x, y, int(rng.integers(x + 9, wide)), int(rng.integers(y + 9, high)))
                boxes.append(box)
                lines.append(f"c{number}/{number}.JPEG,{','.join(map(str, box))}\n")
            made[number] = (picture, boxes)
    (tmp_path / "boxes.csv").write_text("".join(lines))
    net = Colours()
    net.maps = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.AvgPool2d(32))  # type: ignore[assignment]
    with torch.no_grad():
        net.maps[0].weight.copy_(torch.eye(3)[:, :, None, None])  # type: ignore[index]
    report = evaluate(
        colours(224, net), f"folder:{tmp_path / 'set'}",
        ["clean", Localisation(boxes=tmp_path / "boxes.csv", threshold_step=0.4)],
    )  # fmt: skip
    thresholds = np.arange(0, 1, 0.4).tolist()
    every, largest = [], []
    for colour, (picture, boxes) in made.items():
        small = np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR))
        coarse = small[..., colour].reshape(7, 32, 7, 32).mean(axis=(1, 3)) / 255
        cam = torch.from_numpy(4 * coarse.astype(np.float32)).double()[None, None]
        large = nn.functional.interpolate(cam, (224, 224), mode="bicubic")[0, 0].numpy()
        scores = (large - large.min()) / np.ptp(large)
        across, down = 224 / picture.width, 224 / picture.height
        truth = [
            (int(a * across), int(b * down), int(c * across), int(d * down)) for a, b, c, d in boxes
        ]
        both = localisers.best_ious((255 * scores).astype(np.uint8), truth, thresholds)
        every.append(both[0])
        largest.append(both[1])
    part, rows = part_of(report), tables(report)
    assert part.shown.note == "cam, oracle threshold"
    for name, want in (("iou", every), ("iou_largest", largest)):
        levels = [int(threshold * 255) for threshold in thresholds]
        found = rows[name][0, 0][:, levels] / 30_000
        # float32 pooling may move a pixel over a level.
        assert found == pytest.approx(np.array(want), abs=0.02)
    bounds = [0.3, 0.5, 0.7]
    assert value(part, "maxboxacc_v2") == localisers.max_box_accuracy(every, bounds)
    assert value(part, "maxboxacc") == localisers.max_box_accuracy(largest, [0.5])


class Grey(nn.Module):
    """Maps of 7x7 whose mean makes the scores of so many classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.maps, self.pool = nn.AvgPool2d(32), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.maps(x)).flatten(1))  # type: ignore[no-any-return]


def many(classes: int) -> RobustModel:
    return RobustModel(
        Grey(classes), mean=(0, 0, 0), std=(1, 1, 1), num_classes=classes, input_size=(3, 224, 224)
    )


def test_the_official_boxes_of_birds_need_no_option(tmp_path: Path) -> None:
    home, names = tmp_path / "CUB_200_2011", [f"{number:03d}.B" for number in range(1, 201)]
    files = [f"{names[0]}/a_1.jpg", f"{names[1]}/b_2.jpg"]
    write(home / "images.txt", *(f"{n} {file}" for n, file in enumerate(files, 1)))
    write(home / "image_class_labels.txt", "1 1", "2 2")
    write(home / "train_test_split.txt", "1 0", "2 0")
    write(home / "classes.txt", *(f"{n} {name}" for n, name in enumerate(names, 1)))
    write(home / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0", "2 1.0 2.0 300.0 253.0")
    picture(home / "images" / files[0], size=(500, 335))
    picture(home / "images" / files[1], size=(301, 256))
    asked: dict[str, Any] = {"data_dir": tmp_path, "allow_partial": True}
    report = evaluate(many(200), "cub-200-2011", ["localisation"], **asked)
    assert tables(report)["truth"][0, 0].tolist() == [[[26, 18, 172, 221]], [[0, 1, 224, 223]]]
    assert part_of(report).params["boxes"]["name"] == "bounding_boxes.txt"
    (home / "bounding_boxes.txt").unlink()
    with pytest.raises(IntakeError, match="where the objects are in cub-200-2011 is not known"):
        evaluate(many(200), "cub-200-2011", ["localisation"], **asked)


def test_the_official_boxes_of_imagenet_need_no_option(tmp_path: Path) -> None:
    home, wnid = tmp_path / "imagenet-1k", imagenet_wnids()[3]
    stem = "ILSVRC2012_val_00000007"
    for each in imagenet_wnids():
        (home / "val" / each).mkdir(parents=True)
    picture(home / "val" / wnid / f"{stem}.JPEG", size=(500, 335))
    box = "<xmin>60</xmin><ymin>27</ymin><xmax>385</xmax><ymax>331</ymax>"
    objects = f"<object><bndbox>{box}</bndbox></object>" * 2
    # The boxes go by the size that the file states.
    text = f"<annotation><size><width>1000</width><height>670</height></size>{objects}</annotation>"
    write(home / "Annotations/CLS-LOC/val" / f"{stem}.xml", text)
    report = evaluate(
        many(1000), "imagenet-1k", ["localisation"], data_dir=tmp_path, allow_partial=True
    )
    assert tables(report)["truth"][0, 0].tolist() == [[[13, 9, 86, 110]] * 2]
