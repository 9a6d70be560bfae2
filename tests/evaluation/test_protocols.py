"""Named protocols: what they expand to, and how they stand side by side in one report."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from robustmix.errors import UsageError
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.names import PROTOCOLS
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.protocols import PRESETS, Scene, plan_presets
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.occlusion import OcclusionSuite
from robustmix.report import Report
from robustmix.report.terminal import headline
from tests.evaluation.tiny import tiny_images, tiny_model

CIFAR = Scene(side=32, imagenet=False)
IMAGENET = Scene(side=224, imagenet=True)


def by_key(*names: str, scene: Scene = CIFAR) -> dict[str, Planned]:
    planned = plan_presets(names, scene)
    keys = [item.key for item in planned]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, planned, strict=True))


def test_every_protocol_is_described() -> None:
    assert set(PROTOCOLS) == set(PRESETS)


def test_standard() -> None:
    found = by_key("standard")
    assert list(found) == ["clean", "calibration", "corruption", "fgsm", "pgd", "occlusion"]
    assert found["corruption"].suite == CorruptionSuite()
    assert found["fgsm"].suite.params()["eps"] == "8/255"
    assert found["pgd"].suite.params()["steps"] == 20
    assert all(item.limit is None for item in found.values())
    assert by_key("standard", scene=IMAGENET)["pgd"].suite.params()["eps"] == "4/255"


def test_quick_covers_parts_and_says_which() -> None:
    found = by_key("quick")
    corruption = found["corruption"].suite
    assert isinstance(corruption, CorruptionSuite)
    assert (corruption.severities, len(corruption.selected)) == ((1, 3, 5), 15)
    assert found["clean"].limit is None
    assert {key for key, item in found.items() if item.limit} == {
        "corruption", "fgsm", "pgd", "occlusion",
    }  # fmt: skip
    assert found["pgd"].suite.params()["steps"] == 10


def test_a_published_tools_figures_never_have_the_plain_name() -> None:
    found = by_key("paper-adautomix")
    assert list(found) == [
        "clean", "calibration@paper-adautomix", "corruption", "fgsm@paper-adautomix",
        "occlusion@paper-adautomix",
    ]  # fmt: skip
    params = found["fgsm@paper-adautomix"].suite.params()
    assert (params["space"], params["nonstandard"]) == ("normalised", True)
    occlusion = found["occlusion@paper-adautomix"].suite
    assert isinstance(occlusion, OcclusionSuite)
    assert (occlusion.mask_scope, occlusion.rounding, occlusion.trials) == (
        "batch:100", "half-even", 1,
    )  # fmt: skip
    later = by_key("openmixup-2025")
    assert "fgsm" in later  # it perturbs pixels as the standard does
    assert "occlusion@openmixup-2025" in later


def test_published_mask_counts() -> None:
    """Evaluation specification, 7.4: what the tools hide of 196 patches."""
    published = {
        "paper-adautomix": [20, 39, 59, 78, 98, 118, 137, 157, 176],
        "naseer-patchdrop": [19, 39, 58, 78, 98, 117, 137, 156, 176],
    }
    for name, counts in published.items():
        suite = by_key(name, scene=Scene(side=224, imagenet=False))[f"occlusion@{name}"].suite
        assert isinstance(suite, OcclusionSuite)
        params = suite.resolved((224, 224)).params()
        assert (params["grid"], params["masked"][1:]) == ("14x14", counts)


def test_presets_side_by_side_share_what_is_the_same() -> None:
    found = by_key("standard", "paper-adautomix", "robustbench")
    assert found["corruption"].of == ("standard", "paper-adautomix")
    assert found["clean"].of == ("standard", "paper-adautomix", "robustbench")
    assert found["fgsm"].of == ("standard",)
    assert found["fgsm@paper-adautomix"].of == ("paper-adautomix",)
    assert found["corruption@robustbench"].of == ("robustbench",)
    assert found["autoattack"].limit == 1000


def test_hendrycks_divides_by_alexnet_on_imagenet_only() -> None:
    for scene, reference in ((CIFAR, None), (IMAGENET, "alexnet")):
        suite = by_key("hendrycks", scene=scene)["corruption"].suite
        assert isinstance(suite, CorruptionSuite)
        assert (suite.mce_reference, suite.corruptions) == (reference, "main")


def test_naseer_patchdrop_is_salient_with_a_file() -> None:
    scene = Scene(side=224, imagenet=True, saliency_file=Path("maps.npz"))
    suite = by_key("naseer-patchdrop", scene=scene)["occlusion@naseer-patchdrop"].suite
    assert isinstance(suite, OcclusionSuite)
    assert suite.modes == ("random", "salient", "nonsalient")
    assert (suite.fill, suite.mask_scope) == ("black", "batch:256")
    with pytest.raises(UsageError, match="14"):
        suite.resolved((32, 32))


def test_wanted_suites_and_changes() -> None:
    def change(suite: Suite) -> Suite:
        return replace(suite, eps=Fraction(1, 255)) if isinstance(suite, FgsmSuite) else suite

    planned = plan_presets(["standard"], CIFAR, wanted=["fgsm"], change=change)
    assert [item.key for item in planned] == ["clean", "fgsm"]
    assert planned[1].suite.params()["eps"] == "1/255"


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (["standrd"], None, "did you mean 'standard'"),
        (["quick", "quick"], None, "twice"),
        (["robustbench"], ["fgsm"], "none of the suites fgsm"),
    ],
)
def test_what_cannot_be_meant(names: list[str], wanted: list[str] | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_presets(names, CIFAR, wanted=wanted)
    assert said in caught.value.line()


def test_a_report_holds_presets_side_by_side(tmp_path: Path) -> None:
    names = ["standard", "quick", "paper-adautomix"]
    planned = plan_presets(names, CIFAR, wanted=["calibration", "fgsm", "occlusion"])
    evaluate(tiny_model(), tiny_images(), planned, out=tmp_path)
    report = Report.load(tmp_path)
    protocol = report.content.protocol
    assert protocol.presets == names
    assert protocol.nonstandard
    assert protocol.nonstandard_suites == [
        "calibration@paper-adautomix", "fgsm@paper-adautomix", "occlusion@paper-adautomix",
    ]  # fmt: skip
    assert report.metric("calibration@paper-adautomix.ece_paper_tool").value is not None
    assert "ece_paper_tool" not in report.content.suites["calibration"].metrics
    assert recompute(report) == []
    shown = {key: dict(headline(key, part)) for key, part in report.content.suites.items()}
    assert "ece_paper_tool" in shown["calibration@paper-adautomix"]
    assert "error_clamp_only" in shown["fgsm@paper-adautomix"]
    assert report.samples is not None
    table = report.samples.tables["occlusion@paper-adautomix"]
    assert table.trials == 1
    assert np.isfinite(table.columns["confidence"].astype(float)).all()
