"""Images of other classes than a model was trained on are refused, whatever they are called."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustmix.data.images import ImageSet
from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.held_out import open_held_out
from robustmix.evaluation.suites.masking import Masking
from robustmix.models.robust_model import RobustModel
from tests.evaluation.tiny import Net, tiny_images, tiny_model

NAMES = ("Crane Fly", "eel", "fox", "gnu", "hen")


def model(names: tuple[str, ...] | None = NAMES, **info: Any) -> RobustModel:
    robust = tiny_model()
    robust.info = replace(robust.info, class_names=names, dataset="zoo", **info)
    return robust


def images(names: tuple[str, ...] = NAMES, called: str = "zoo") -> ImageSet:
    return replace(tiny_images(), class_names=names, name=called)


OTHERS = {
    "the first is another": (
        ("ape", *NAMES[1:]),
        "those",
        "class 0 is 'ape', the model's is 'Crane",
    ),
    "shifted by one": (("ape", *NAMES[:-1]), "those", "class 0 is 'ape'"),
    "the last is another": (
        (*NAMES[:-1], "owl"),
        "those",
        "class 4 is 'owl', the model's is 'hen'",
    ),
    "another order": ((*NAMES[:2], "gnu", "fox", "hen"), "in the order", "class 2 is 'gnu'"),
}


@pytest.mark.parametrize("called", ["zoo", "garden"])
@pytest.mark.parametrize("how", OTHERS)
def test_other_classes_are_refused_whatever_the_set_is_called(how: str, called: str) -> None:
    names, what, shown = OTHERS[how]
    with pytest.raises(IntakeError, match=f"are not {what} of the model") as caught:
        evaluate(model(), images(names, called), ["clean"])
    assert (caught.value.code, caught.value.exit_code) == ("E-CLASS-NAMES", 3)
    assert shown in caught.value.message


def test_so_are_those_of_calibration_images_and_of_a_surrogate() -> None:
    other = OTHERS["another order"][0]
    with pytest.raises(IntakeError, match="not in the order of"):
        open_held_out(model(), calib_data=images(other))
    with pytest.raises(IntakeError, match="not in the order of"):
        evaluate(model(), images(), ["clean", Masking(surrogate=model(other))])


def test_names_that_are_only_spelled_otherwise_are_the_same() -> None:
    spelled = ("crane_fly", "Eel", "FOX", "gnu", "hen")
    report = evaluate(model(), images(spelled), ["clean"])
    assert report.content.run.status == "success"


def test_signs_that_make_the_difference_count() -> None:
    signs = ("c++", "c#", "c", "d", "e")
    swapped = ("c#", "c++", "c", "d", "e")
    with pytest.raises(IntakeError, match="not in the order of"):
        evaluate(model(signs), images(swapped), ["clean"])


def test_who_says_what_the_outputs_mean_is_believed() -> None:
    mapped = RobustModel(
        Net(), mean=(0.4,) * 3, std=(0.2,) * 3, num_classes=5, input_size=(3, 32, 32),
        class_map=[1, 0, 2, 3, 4],
    )  # fmt: skip
    mapped.info = replace(mapped.info, class_names=NAMES, class_map_sha256="0" * 64)
    report = evaluate(mapped, images(OTHERS["shifted by one"][0]), ["clean"])
    assert report.content.run.status == "success"


def test_a_model_that_knows_no_names_takes_any(tmp_path: Path) -> None:
    report = evaluate(model(None), images(), ["clean"], out=tmp_path)
    assert report.content.run.status == "success"
