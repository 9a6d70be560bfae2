"""The published figures: the packaged table, and what a look-up gives."""

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from robustmix.cli.app import run
from robustmix.methods.registry import METHODS
from robustmix.models.registry import build_model
from robustmix.report import Report
from robustmix.studies.published import (
    REPORT_METRICS,
    Published,
    find_published,
    metric_names,
    published,
)
from robustmix.studies.statistics import STATISTICS
from tests.reference.vectors import reference_files


def test_the_packaged_table_is_the_reference_byte_for_byte() -> None:
    found = reference_files("published.csv")
    if not found:
        pytest.skip("no published.csv (set ROBUSTMIX_REFERENCE)")
    (path,) = found
    packaged = files("robustmix.studies").joinpath("published.csv").read_bytes()
    assert packaged == path.read_bytes()


def test_every_figure_is_read() -> None:
    figures = published()
    assert len(figures) == 2072
    assert len({figure.study for figure in figures}) == 38
    assert {figure.metric for figure in figures} == set(REPORT_METRICS)
    assert {figure.stat for figure in figures} == {"mean-of-3", "unknown", *STATISTICS} - {"last"}
    assert all(0 < figure.value < 100 for figure in figures)
    assert all(f"{figure.value:.{len(figure.printed.split('.')[1])}f}" == figure.printed
               for figure in figures if "." in figure.printed)  # fmt: skip
    assert sum(figure.epochs is None for figure in figures) == 39
    # Columns shift where a note's commas are taken for separators; here none has.
    assert Counter(len(figure.dataset) > 20 for figure in figures) == {False: 2072}
    assert sum("," in figure.source for figure in figures) > 200


def test_a_figure_by_hand() -> None:
    (figure,) = [
        figure
        for figure in published()
        if (figure.study, figure.metric, figure.method) == ("automix-t6", "fgsm_error", "vanilla")
    ]
    assert figure == Published(
        study="automix-t6",
        table="Table 6",
        dataset="cifar100",
        arch="resnext50_32x4d",
        epochs=400,
        method="vanilla",
        metric="fgsm_error",
        value=63.92,
        printed="63.92",
        stat="unknown",
        source="AutoMix paper Table 6",
        note="protocol not stated beyond CIFAR-100-C (19 corruptions) and FGSM at 8/255",
    )
    assert figure.fraction == pytest.approx(0.6392, abs=1e-15)
    assert figure.usable
    assert not figure.doubtful


def test_unusable_figures_are_known_and_never_found() -> None:
    bad = [figure for figure in published() if not figure.usable]
    assert sorted(figure.printed for figure in bad) == ["80.58", "81.04", "82.66"]
    assert all(figure.doubtful and figure.study == "poster-t3" for figure in bad)
    for figure in bad:
        assert figure.epochs is not None
        found = find_published(
            dataset=figure.dataset,
            arch=figure.arch,
            epochs=figure.epochs,
            method=figure.method,
            metric=figure.metric,
            studies=["poster-t3"],
        )
        assert figure not in found


def test_doubts() -> None:
    words = ("DISAGREES", "RESTORED", "GARBLED: printed", "GARBLED: cannot")
    counts = {word: sum(word in figure.note for figure in published()) for word in words}
    assert (counts["RESTORED"], counts["GARBLED: cannot"]) == (8, 3)
    assert counts["DISAGREES"] == 128
    assert sum(figure.doubtful for figure in published()) >= max(counts.values())
    assert not any(figure.doubtful for figure in published() if not figure.note)


ADAUTOMIX = {
    "dataset": "cifar100",
    "arch": "resnet18",
    "epochs": 200,
    "method": "adautomix",
}


def test_the_asked_studies_come_first_and_in_their_order() -> None:
    everywhere = [f.study for f in find_published(**ADAUTOMIX, metric="top1")]  # type: ignore[arg-type]
    assert len(set(everywhere)) > 2
    wanted = ["poster-t3", "aam-logs"]
    found = find_published(**ADAUTOMIX, metric="top1", studies=wanted)  # type: ignore[arg-type]
    assert sorted(f.study for f in found) == sorted(everywhere)
    order = [f.study for f in found]
    assert order[0] == "poster-t3"
    assert set(order[1 : 1 + order.count("aam-logs")]) == {"aam-logs"}
    assert found[0].printed == "81.55"
    assert order[1 + order.count("aam-logs") :] == [s for s in everywhere if s not in wanted]


def test_a_report_s_name_of_a_metric_finds_the_same() -> None:
    asked = {**ADAUTOMIX, "studies": ["poster-t3"]}
    for metric, paths in REPORT_METRICS.items():
        for path in paths:
            assert metric_names(path) == [metric]
            assert find_published(**asked, metric=path) == find_published(**asked, metric=metric)  # type: ignore[arg-type]
    (error,) = find_published(**asked, metric="fgsm@paper-adautomix.error")  # type: ignore[arg-type]
    assert error.printed == "75.66"
    assert find_published(**asked, metric="occlusion.auc") == []  # type: ignore[arg-type]
    assert find_published(**{**asked, "epochs": 201}, metric="top1") == []  # type: ignore[arg-type]


def test_an_unknown_length_counts_for_the_asked_study_alone() -> None:
    asked = {"dataset": "cub-200-2011", "arch": "resnet18", "epochs": 200, "method": "automix"}
    assert find_published(**asked, metric="maxboxacc_v2") == []  # type: ignore[arg-type]
    (found,) = find_published(**asked, metric="maxboxacc_v2", studies=["automix-t8"])  # type: ignore[arg-type]
    assert found.epochs is None


def test_variants_are_methods_of_their_own() -> None:
    asked = {"dataset": "tiny-imagenet", "arch": "resnet18", "epochs": 400, "metric": "top1"}
    (found,) = find_published(**asked, method="mixup[mp+ce]")  # type: ignore[arg-type]
    assert found.study == "automix-t10"
    assert found not in find_published(**asked, method="mixup", studies=["automix-t10"])  # type: ignore[arg-type]
    unknown = {figure.method.partition("[")[0] for figure in published()} - set(METHODS)
    assert unknown == {"smmix", "tokenmix", "saliency-grafting"}


def test_reports_have_the_numbers_that_figures_are_held_against(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "net.pth"
    torch.save(build_model("resnet8", num_classes=10, input_size=(3, 32, 32)).state_dict(), weights)
    command = [
        "eval", str(weights), "--arch", "resnet8", "--num-classes", "10", "--dataset", "digits",
        "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--limit", "12", "--progress", "none",
        "--protocol", "paper-adautomix,standard", "--masking", "off",
        "--suite", "calibration,corruption,fgsm",
    ]  # fmt: skip
    assert run([*command, "--out", str(tmp_path / "report")]) == 0
    suites = Report.load(tmp_path / "report").content.suites
    names = {f"{key}.{name}" for key, part in suites.items() for name in part.metrics}
    # Of a part of the test set it has another name, so that it is not taken for the published one.
    assert "corruption.acc_mean_all19_subset" in names
    have = {name.removesuffix("_subset") for name in names}
    wanted = {path for paths in REPORT_METRICS.values() for path in paths}
    assert wanted - have == {
        "localisation.maxboxacc_v2",  # of pictures whose boxes are known
        "corruption@paper-adautomix.acc_mean_all19",  # another name of the plain one
    }
