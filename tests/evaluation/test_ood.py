"""The suite ood: every number against the network itself, and all that a suite must do."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from robustmix import evaluate
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.comparison.paths import parse_path
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.errors import IncompatibleError, IntakeError, RobustmixError
from robustmix.evaluation.forecast import forecast, forecast_lines
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.registry import names_of_all
from robustmix.metrics.detection import SCORES, Detection, detection_scores
from robustmix.metrics.metric import Metric
from robustmix.models.robust_model import RobustModel
from robustmix.pages.drawings import draw
from robustmix.pages.page import page_html
from robustmix.report.report import Report
from tests.comparison.test_forgeries import (
    DECIDING,
    Place,
    altered,
    campaign,
    code_of,
    rule_for,
    unchanged,
    with_columns,
)
from tests.shift.made import (
    SIDE,
    cifar10_1,
    cifar_like,
    cifar_model,
    imagenet_like,
    imagenet_model,
    logits_of,
    picture,
)

SETS = ("digits", "textures")
LIMIT = 40


def images_in(data: ImageSet) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = data.pixels.take(torch.arange(len(data))).numpy()
    return found


def write(folder: Path, images: NDArray[np.uint8], names: Sequence[str] | None = None) -> Path:
    for i, image in enumerate(images):
        path = folder / (f"{i:03d}.png" if names is None else names[i])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of 32x32 pixels, in no class folder."""
    rng = np.random.default_rng(4)
    stripes = rng.integers(0, 256, (30, 3, 32, 1), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("sets") / "textures"
    return write(folder, np.repeat(stripes, 32, axis=3))


def evaluated(textures: Path, **options: Any) -> Report:
    usual: dict[str, Any] = {"ood_dataset": ("digits", f"folder:{textures}"), "limit": LIMIT}
    model = options.pop("model", None) or cifar_model()
    return evaluate(model, cifar_like(), ["ood"], **{**usual, **options})


@pytest.fixture(scope="module")
def report(textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("out")
    found = evaluated(textures, out=out)
    assert found.content.suites["ood"].status == "ok", found.content.suites["ood"].reason
    assert recompute(Report.load(out)) == []
    return found


def number(report: Report, path: str) -> Metric:
    found = report.content.suites["ood"].number(path)
    assert found is not None, path
    return found


def value_of(report: Report, path: str) -> float:
    found = number(report, path).value
    assert found is not None
    return found


def scores_by_hand(model: RobustModel, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    return detection_scores(logits_of(model, torch.from_numpy(images)))


def chosen(report: Report, start: str) -> list[str]:
    """The ids of the images that a report is of, without how they begin."""
    assert report.samples is not None
    table = report.samples.tables["ood"]
    assert table.added is not None
    return [i.removeprefix(start) for i in table.added.sample_ids if i.startswith(start)]


def test_every_number_is_the_networks(report: Report, textures: Path) -> None:
    assert report.samples is not None
    model, data = cifar_model(), cifar_like()
    place = {name: i for i, name in enumerate(data.sample_ids)}
    inside = scores_by_hand(model, images_in(data)[[place[i] for i in report.samples.sample_ids]])
    digits = load_dataset("digits", "test")
    at = {name: i for i, name in enumerate(digits.sample_ids)}
    of_digits = [at[f"digits/{one}"] for one in chosen(report, "digits/ood/")]
    stripes = chosen(report, "textures/ood/")
    outside = {
        "digits": scores_by_hand(model, images_in(digits)[of_digits]),
        "textures": scores_by_hand(
            model,
            np.stack([np.array(Image.open(textures / one)).transpose(2, 0, 1) for one in stripes]),
        ),
    }
    assert (len(of_digits), len(stripes)) == (LIMIT, 30)
    for name, scores in outside.items():
        for score in SCORES:
            found = number(report, f"auroc_{score}[{name}]")
            is_in = [1] * LIMIT + [0] * len(scores[score])
            both = np.append(inside[score], scores[score])
            assert found.value == pytest.approx(roc_auc_score(is_in, both))
            assert found.n == len(both)
            assert found.ci is not None
            by_hand = Detection(inside[score], scores[score])
            for measure in ("fpr95", "aupr_in", "aupr_out"):
                value = number(report, f"{measure}_{score}[{name}]").value
                assert value == pytest.approx(by_hand.estimate(measure)), measure
    for score in SCORES:
        values = [value_of(report, f"auroc_{score}[{name}]") for name in SETS]
        assert value_of(report, f"auroc_mean_{score}") == pytest.approx(np.mean(values))
        assert 0.01 < min(values) < 0.99


def test_of_one_set_there_is_no_mean(textures: Path) -> None:
    part = evaluated(textures, ood_dataset="digits").content.suites["ood"]
    assert part.metrics == {}
    assert part.shown.headline[:2] == ["auroc_msp[digits]", "fpr95_msp[digits]"]


def test_it_is_shown_everywhere(report: Report, tmp_path: Path) -> None:
    html = page_html([report])
    assert "Out-of-distribution detection" in html
    assert "also evaluated" in html
    said = draw("score-histograms", [report], tmp_path / "a.png")
    value = value_of(report, "auroc_energy[digits]")
    assert f"log-sum-exp on digits: AUROC {100 * value:.2f} %" in said
    shown = report.content.suites["ood"].shown
    assert shown.gated == [f"auroc_{score}[{name}]" for name in SETS for score in SCORES]
    assert shown.headline[0] == "auroc_mean_msp"
    assert "ood" not in names_of_all()
    evaluation = prepare(cifar_model(), cifar_like(), ["ood"], options={"ood_dataset": "digits"})
    found = forecast(evaluation, batch_size=64, seconds=0.01)
    (cost,) = (one for one in found.suites if one.key == "ood")
    assert (cost.conditions, cost.n, cost.forwards) == (2, 560, 500)
    assert any("digits, 500 images" in line for line in forecast_lines(evaluation, found))


def test_neither_the_batch_nor_a_stop_nor_shards_change_a_row(
    report: Report, textures: Path, tmp_path: Path
) -> None:
    class Stopped:
        left = 4

        def __call__(self) -> bool:
            self.left -= 1
            return self.left < 0

    cut = evaluated(textures, out=tmp_path / "a", should_stop=Stopped(), batch_size=7)
    assert cut.content.run.status == "interrupted"
    done = evaluated(textures, out=tmp_path / "a", resume=True, batch_size=13)
    halves = [evaluated(textures, shard=f"{i}/2") for i in (1, 2)]
    for other in (done, merge_reports(halves)):
        assert other.samples is not None
        assert report.samples is not None
        again, once = other.samples.tables["ood"], report.samples.tables["ood"]
        assert again.added is not None
        assert once.added is not None
        assert again.added.sample_ids == once.added.sample_ids
        for name, column in once.columns.items():
            assert np.allclose(again.columns[name], column, rtol=1e-5)
        assert recompute(other) == []


def test_evaluated_pictures_among_the_others_are_counted(tmp_path: Path) -> None:
    """Three of the evaluated pictures, as files, and seven of no data set."""
    data, rng = cifar_like(), np.random.default_rng(0)
    others = rng.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    write(tmp_path / "mixed", np.concatenate([images_in(data)[[3, 50, 11]], others]))
    report = evaluate(cifar_model(), data, ["ood"], ood_dataset=f"folder:{tmp_path / 'mixed'}")
    (warned,) = (one for one in report.content.warnings if one.code == "W-OOD-SELF")
    assert warned.message.startswith("3 of 10 images of mixed are among the evaluated ones")
    assert recompute(report) == []


def test_the_evaluated_set_itself_is_told_by_its_ids() -> None:
    digits = load_dataset("digits", "test").subset(range(60))
    report = evaluate(cifar_model(), digits, ["ood"], ood_dataset="digits", limit=20)
    said = [one.message for one in report.content.warnings if one.code == "W-OOD-SELF"]
    assert said[0].startswith("60 of 500 images of digits have the ids of images of digits")
    for score in SCORES:
        assert 0.2 < value_of(report, f"auroc_{score}[digits]") < 0.8


def test_a_constant_network_makes_no_picture_another(tmp_path: Path) -> None:
    model = cifar_model()
    for parameter in model.parameters():
        parameter.data.zero_()
    rng = np.random.default_rng(0)
    write(tmp_path / "set", rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    report = evaluate(model, cifar_like(), ["ood"], ood_dataset=f"folder:{tmp_path / 'set'}")
    assert not [one for one in report.content.warnings if one.code == "W-OOD-SELF"]
    for score in SCORES:
        assert number(report, f"auroc_{score}[set]").value == 0.5
        assert number(report, f"fpr95_{score}[set]").value == 1


def test_resizing_is_told_where_only_one_was_resized(textures: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "large", rng.integers(0, 256, (4, 3, 90, 80), dtype=np.uint8))
    asked = [f"folder:{textures}", f"folder:{tmp_path / 'large'}"]
    found = evaluated(textures, ood_dataset=asked)
    said = [one.message for one in found.content.warnings if one.code == "W-OOD-RESIZED"]
    assert [one.split()[:3] for one in said] == [["images", "of", "large"]]
    assert "are reduced 2.2 times, those of cifar10 as they are stored" in said[0]
    transforms = [one["transform"] for one in found.content.suites["ood"].params["sets"]]
    assert transforms == ["none", "resize36-bicubic+centercrop32"]


def test_others_are_prepared_as_the_evaluated_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for i in range(6):
        picture(tmp_path / "set" / f"deep/er/{i}.png", rng, (31 + i, 29))
    model = imagenet_model()
    # Their own way would be to 27 pixels.
    data = replace(imagenet_like(list(range(12))), transform="resize29-bicubic+centercrop24")
    report = evaluate(model, data, ["ood"], ood_dataset=f"folder:{tmp_path / 'set'}")
    pictures = []
    for i in range(6):
        image = Image.open(tmp_path / "set" / f"deep/er/{i}.png")  # 29 pixels high
        left, top = round((31 + i - SIDE) / 2), round((29 - SIDE) / 2)
        cut = np.array(image.crop((left, top, left + SIDE, top + SIDE)))
        pictures.append(cut.transpose(2, 0, 1))
    by_hand = scores_by_hand(model, np.stack(pictures))
    assert report.samples is not None
    table = report.samples.tables["ood"].at("set")
    for score in SCORES:
        assert np.allclose(table[score][12:], by_hand[score], rtol=1e-4)


def test_a_folder_with_splits_gives_its_test_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    names = ["train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png", "test/b/4.png"]
    write(tmp_path / "set", rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8), names)
    report = evaluate(cifar_model(), cifar_like(), ["ood"], ood_dataset=f"folder:{tmp_path}/set")
    assert chosen(report, "set/ood/") == ["a/2.png", "b/3.png", "b/4.png"]


def test_shift_sets_are_sets_too(tmp_path: Path) -> None:
    cifar10_1(tmp_path)
    options = {"ood_dataset": "cifar10.1-v6", "data_dir": tmp_path}
    report = evaluate(cifar_model(), cifar_like(), ["ood"], **options)  # type: ignore[arg-type]
    assert number(report, "auroc_msp[cifar10.1-v6]").n == 60 + 50


@pytest.mark.parametrize(
    ("sets", "code", "says"),
    [
        ((), "E-OOD-SET", "add --ood-dataset svhn, or folder:PATH"),
        (("digits", "digits"), "E-OOD-SET", "two sets are called digits"),
        (("digits", "folder:other/digits"), "E-OOD-SET", "two sets are called digits"),
        (("folder:in-distribution",), "E-OOD-SET", "two sets are called in-distribution"),
        (("digit",), "E-UNKNOWN-DATASET", "did you mean 'digits'"),
        (("svhn",), "E-DATA", "no test_32x32.mat"),
        (("folder:none",), "E-DATA", "no folder at"),
        (("folder:nothing",), "E-DATA", "holds no images"),
    ],
)
def test_what_cannot_be_read_says_why(
    sets: tuple[str, ...], code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("other/digits", "in-distribution"):
        write(tmp_path / name, np.zeros((1, 3, 32, 32), dtype=np.uint8))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RobustmixError) as caught:
        evaluate(cifar_model(), cifar_like(), ["ood"], ood_dataset=sets, data_dir=tmp_path)
    assert caught.value.code == code
    assert says in caught.value.line()


def test_two_models_are_compared_and_gated(report: Report, textures: Path) -> None:
    other = evaluated(textures, model=cifar_model(3), name="other")
    path = parse_path("ood.auroc_energy[digits]")
    (told,) = compare(report, other, metrics=[path]).comparisons[0].metrics
    a, b = (value_of(one, "auroc_energy[digits]") for one in (report, other))
    assert [told.a, told.b] == pytest.approx([a, b])
    assert told.ci is not None
    assert told.ci[0] <= b - a <= told.ci[1]
    shown = compare(report, other).comparisons[0].metrics
    assert {row.path for row in shown} >= {"ood.fpr95_msp[digits]", "ood.auroc_mean_msp"}
    assert check(report, report).exit_code == 0
    judged = {rule.path for rule in check(report, other).rules}
    assert judged >= {"ood.auroc_msp[digits]", "ood.auroc_energy[textures]"}


def test_other_images_are_not_compared(report: Report, textures: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "textures", np.zeros((9, 3, 32, 32), dtype=np.uint8))
    with pytest.raises(IncompatibleError, match="ood"):
        compare(report, evaluated(few), metrics=[parse_path("ood.auroc_msp[digits]")])


def test_no_field_can_be_forged(report: Report) -> None:
    def inside(place: Place) -> bool:
        return place[:2] == ("suites", "ood")

    assert campaign(report, inside, every=False) > 40


def test_no_column_can_be_forged(report: Report) -> None:
    assert report.samples is not None
    passed = []
    for name, column in report.samples.tables["ood"].columns.items():
        for how, other in altered(column, clumsily=True):
            if other is not None and unchanged(other, column):
                continue
            one = with_columns(report, "ood", **{name: other})
            code = code_of(one, *rule_for(()))
            if code not in (3, 4, 5) and (name in DECIDING or recompute(one) != []):
                passed.append((name, how, code))
    assert passed == []


def test_rows_that_the_clean_logits_deny_are_noticed(report: Report) -> None:
    """All three scores of one image in the place of another's: each row fits itself."""
    assert report.samples is not None
    columns = {name: np.array(of) for name, of in report.samples.tables["ood"].columns.items()}
    for name in SCORES:
        columns[name][0, 0, 0] = columns[name][0, 0, 1]
    with pytest.raises(IntakeError, match="not scored by the clean logits"):
        recompute(with_columns(report, "ood", **columns))


def test_images_under_other_ids_are_noticed(report: Report) -> None:
    assert report.samples is not None
    table = report.samples.tables["ood"]
    assert table.added is not None
    ids = ("digits/ood/test/none", *table.added.sample_ids[1:])
    changed = replace(table, added=replace(table.added, sample_ids=ids))
    tables = {**report.samples.tables, "ood": changed}
    with pytest.raises(IntakeError, match="not those of the report"):
        recompute(Report(report.content, replace(report.samples, tables=tables)))
