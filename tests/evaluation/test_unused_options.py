"""An option that would change nothing is refused, with the reason; what is chosen for is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.report.terminal import note_lines
from tests.evaluation.tiny import tiny_images, tiny_model

UNUSED: list[tuple[dict[str, Any], str]] = [
    ({"saliency": "gradxinput"}, "--saliency is of modes salient, nonsalient"),
    ({"saliency_label": "label"}, "--saliency-label is of modes salient, nonsalient"),
    ({"saliency_file": "maps.npz"}, "--saliency-file is of modes salient, nonsalient"),
    ({"boxes": "boxes.npz"}, "--boxes is of modes foreground, background"),
    ({"mode": "salient", "mask_scope": "batch:9"}, "--mask-scope is of modes random, foreground"),
    ({"saliency": "gradxinput", "mode": "random"}, "--saliency is of modes"),
]


@pytest.mark.parametrize("case", range(len(UNUSED)))
def test_options_of_modes_that_are_not_run(case: int) -> None:
    options, text = UNUSED[case]
    with pytest.raises(UsageError, match="and none of these is run") as caught:
        evaluate(tiny_model(), tiny_images(9), ["occlusion"], **options)
    assert text in caught.value.message
    assert caught.value.code == "E-UNUSED-OPTION"


def test_frost_pictures_without_frost(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frost_dir is of frost, which is not among"):
        evaluate(
            tiny_model(), tiny_images(9), ["corruption"], corruptions="fog", frost_dir=tmp_path
        )


@pytest.mark.parametrize("option", [{"profile": "tiny"}, {"frost_dir": "pictures"}])
def test_constants_of_images_that_are_not_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]
) -> None:
    from robustmix.evaluation.suites import corruption

    monkeypatch.setattr(corruption, "official_folder", lambda *_: tmp_path)
    with pytest.raises(UsageError, match="is of generated images, and these are the released ones"):
        evaluate(tiny_model(), tiny_images(9), ["corruption"], corruptions="frost", **option)


def test_which_of_several_radii_is_the_headline_is_said() -> None:
    for eps, said in (
        (
            "4/255,2/255",
            ["fgsm: of the radii 2/255, 4/255 the first given, 4/255, is the headline's"],
        ),
        ("4/255", []),
        (None, []),
    ):
        options: dict[str, Any] = {} if eps is None else {"eps": eps}
        report = evaluate(tiny_model(), tiny_images(9), ["fgsm"], masking="off", **options)
        assert note_lines(report) == said
    assert np.isclose(report.content.suites["fgsm"].details["eps"], 8 / 255)
