"""Named protocols: what they expand to, and how they stand side by side in one report."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.data.images import TensorPixels
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import plan
from robustmix.evaluation.protocols import (
    PROTOCOLS,
    Place,
    ProtocolScene,
    suites_of_protocols,
)
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Prepared, Scene, Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model

CIFAR = ProtocolScene(side=32, imagenet=False)
IMAGENET = ProtocolScene(side=224, imagenet=True)


def key(place: Place) -> str:
    return place.name + (f"@{place.preset}" if place.preset else "")


def by_key(*names: str, scene: ProtocolScene = CIFAR) -> dict[str, Place]:
    places = suites_of_protocols(names, scene)
    keys = [key(place) for place in places]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, places, strict=True))


def prepared(suite: Suite, side: int = 32) -> Prepared:
    """Decide a suite for images of a size."""
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    data = replace(tiny_images(2), pixels=TensorPixels(images))
    return suite.prepare(Scene(robust=tiny_model(), data=data, folder=Path()))


def test_every_protocol_is_described() -> None:
    assert all(len(protocol.help) > 20 for protocol in PROTOCOLS.values())
    assert len({protocol.help for protocol in PROTOCOLS.values()}) == len(PROTOCOLS) == 7


def test_standard() -> None:
    found = by_key("standard")
    assert list(found) == ["clean", "calibration", "corruption", "fgsm", "pgd", "occlusion"]
    assert found["corruption"].suite == Corruption()
    assert prepared(found["fgsm"].suite).params["eps"] == "8/255"
    assert prepared(found["pgd"].suite).params["steps"] == 20
    assert all(item.limit is None for item in found.values())
    assert prepared(by_key("standard", scene=IMAGENET)["pgd"].suite).params["eps"] == "4/255"


def test_quick_covers_parts_and_says_which() -> None:
    found = by_key("quick")
    corruption = found["corruption"].suite
    assert corruption == Corruption(corruptions="main", severity=(1, 3, 5))
    assert found["clean"].limit is None
    assert {key for key, item in found.items() if item.limit} == {
        "corruption", "fgsm", "pgd", "occlusion",
    }  # fmt: skip
    assert prepared(found["pgd"].suite).params["steps"] == 10


def test_a_published_tools_figures_never_have_the_plain_name() -> None:
    found = by_key("paper-adautomix")
    assert list(found) == [
        "clean", "calibration@paper-adautomix", "corruption", "fgsm@paper-adautomix",
        "occlusion@paper-adautomix",
    ]  # fmt: skip
    params = prepared(found["fgsm@paper-adautomix"].suite).params
    assert (params["space"], params["nonstandard"]) == ("normalised", True)
    occlusion = found["occlusion@paper-adautomix"].suite
    assert occlusion == Occlusion(
        grid=(8, 8), ratios=tuple(Fraction(k, 10) for k in range(10)), trials=1,
        mask_scope="batch:100", rounding="half-even",
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
        suite = by_key(name, scene=ProtocolScene(side=224))[f"occlusion@{name}"].suite
        params = prepared(suite, side=224).params
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
        assert suite == Corruption(corruptions="main", mce_reference=reference)


def test_naseer_patchdrop_is_salient_with_a_file() -> None:
    maps = Path("maps.npz")
    scene = ProtocolScene.of(224, "imagenet-1k", {"saliency_file": "maps.npz"})
    assert scene == ProtocolScene(side=224, imagenet=True, saliency_file=maps)
    suite = by_key("naseer-patchdrop", scene=scene)["occlusion@naseer-patchdrop"].suite
    assert suite == Occlusion(
        grid=(14, 14), ratios=tuple(Fraction(k, 10) for k in range(10)), fill="black", trials=1,
        mode=("random", "salient", "nonsalient"), saliency_file=maps, mask_scope="batch:256",
        rounding="floor", mass=tuple(Fraction(k, 10) for k in range(1, 11)),
    )  # fmt: skip
    with pytest.raises(UsageError, match="14"):
        prepared(suite, side=32)


def test_wanted_suites_and_changes() -> None:
    def change(suite: Suite) -> Suite:
        return suite.with_options(eps=(Fraction(1, 255),)) if suite == fgsm else suite

    fgsm = Attack(attack="fgsm", eps=(Fraction(8, 255),))
    places = suites_of_protocols(["standard"], CIFAR, wanted=["fgsm"], change=change)
    assert [key(place) for place in places] == ["clean", "fgsm"]
    assert prepared(places[1].suite).params["eps"] == "1/255"


def test_suites_that_options_make_alike_are_run_once() -> None:
    """Both protocols have FGSM, at 4/255 and at 8/255; at 2/255 they ask for the same."""
    apart = suites_of_protocols(["standard", "openmixup-2025"], IMAGENET, wanted=["fgsm"])
    assert [key(place) for place in apart] == ["clean", "fgsm", "fgsm@openmixup-2025"]
    planned = plan(
        ["fgsm"], protocols=["standard", "openmixup-2025"], scene=IMAGENET, options={"eps": "2/255"}
    )
    fgsm = next(item for item in planned if item.name == "fgsm")
    assert fgsm.of == ("standard", "openmixup-2025")
    assert [item.key for item in planned] == ["clean", "masking", "fgsm"]
    (masking,) = (item.suite for item in planned if item.name == "masking")
    assert prepared(masking).params["eps"] == "2/255"


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
        suites_of_protocols(names, CIFAR, wanted)
    assert said in caught.value.line()


def test_a_report_holds_presets_side_by_side(tmp_path: Path) -> None:
    names = ["standard", "quick", "paper-adautomix"]
    wanted = ["calibration", "fgsm", "occlusion"]
    evaluate(tiny_model(), tiny_images(), wanted, protocol=names, masking="off", out=tmp_path)
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
    shown = {key: part.shown.headline for key, part in report.content.suites.items()}
    assert "ece_paper_tool" in shown["calibration@paper-adautomix"]
    assert "error_clamp_only" in shown["fgsm@paper-adautomix"]
    assert report.samples is not None
    table = report.samples.tables["occlusion@paper-adautomix"]
    assert table.trials == 1
    assert np.isfinite(table.columns["confidence"].astype(float)).all()


def test_options_act_on_the_published_tools_suites_too() -> None:
    def eps(**options: object) -> object:
        planned = plan(None, protocols=["paper-adautomix"], scene=CIFAR, options=options)
        (found,) = (item.suite for item in planned if item.key == "fgsm@paper-adautomix")
        return prepared(found).params["eps"]

    assert (eps(), eps(eps="4/255,2/255")) == ("8/255", "4/255")
    with pytest.raises(UsageError, match="eps is an option of"):
        plan(None, protocols=["hendrycks"], scene=CIFAR, options={"eps": "4/255"})
