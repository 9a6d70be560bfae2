"""Options are taken in the types that come to hand, by ``evaluate`` and by suites themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import plan
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.calibration import Calibration
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.masking import Masking
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.shuffle import Shuffle
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import tiny_images, tiny_model

WAYS: list[tuple[Callable[..., Suite], dict[str, Any], list[dict[str, Any]]]] = [
    (Corruption, {"severity": (2, 3)}, [
        {"severity": given}
        for given in ("2,3", "2-3", [2, 3], range(2, 4), np.array([2, 3]), torch.tensor([2, 3]))
    ]),
    (Corruption, {"severity": (3,)}, [{"severity": given} for given in (3, "3", np.int64(3))]),
    (Occlusion, {"ratios": (Fraction(1, 10), Fraction(3, 10))}, [
        {"ratios": given} for given in ((0.1, 0.3), "0.1,0.3", ["1/10", 0.3], np.array([0.1, 0.3]))
    ]),
    (Occlusion, {"ratios": (Fraction(1, 4),)}, [{"ratios": 0.25}, {"ratios": "1/4"}]),
    (Occlusion, {"mode": ("random", "salient")}, [
        {"mode": given} for given in ("random,salient", ["random", "salient"])
    ]),
    (Occlusion, {"grid": (4, 8), "offset": (1, 2)}, [
        {"grid": "4x8", "offset": "1,2"}, {"grid": [4, 8], "offset": np.array([1, 2])},
    ]),
    (Occlusion, {"trials": 2, "saliency_file": Path("a.npz")}, [
        {"trials": "2", "saliency_file": "a.npz"},
        {"trials": np.int32(2), "saliency_file": Path("a.npz")},
    ]),
    (Occlusion, {"fill": "image_mean"}, [{"fill": "image-mean"}]),
    (Shuffle, {"pieces": (16,)}, [{"pieces": given} for given in (16, "16", {16}, np.int8(16))]),
    (Calibration, {"ece_bins": (20,), "recalibrate": ("vector",)}, [
        {"ece_bins": 20, "recalibrate": "vector"}, {"ece_bins": "20", "recalibrate": ["vector"]},
    ]),
    (Masking, {"eps": (Fraction(4, 255),)}, [
        {"eps": given}
        for given in (4 / 255, "4/255", [4 / 255], Fraction(4, 255), np.float64(4 / 255))
    ]),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(WAYS)))
def test_each_natural_form_is_the_same_suite(case: int) -> None:
    kind, usual, others = WAYS[case]
    suite = kind(**usual)
    name = "masking" if kind is Masking else kind.__name__.lower()
    for other in others:
        assert kind(**other) == suite, other
        planned = next(one for one in plan([name], options=other) if one.name == name)
        assert planned.suite == suite, other


def test_corruptions_are_names_in_any_form() -> None:
    want = Corruption(corruptions="fog,snow", severity=1)  # type: ignore[arg-type]
    data, model = tiny_images(10), tiny_model()
    report = evaluate(model, data, [want])
    for given in ("snow,fog", ("fog", "snow"), ["snow", "fog"], np.array(["fog", "snow"])):
        other = Corruption(corruptions=given, severity=(1,))  # type: ignore[arg-type]
        found = evaluate(model, data, [other])
        asked = evaluate(model, data, ["corruption"], corruptions=given, severity=1)
        for one in (found, asked):
            part, like = (comparable(r)["suites"]["corruption"] for r in (one, report))
            part["params"].pop("requested"), like["params"].pop("requested")
            assert part == like


def test_attacks_take_radii_in_any_form() -> None:
    want = Attack(attack="pgd", eps=(Fraction(8, 255), Fraction(4, 255)))
    for given in ("8/255,4/255", [8 / 255, "4/255"], (8 / 255, 4 / 255), np.array([8, 4]) / 255):
        assert Attack(attack="pgd", eps=given) == want  # type: ignore[arg-type]


WRONG: list[tuple[Callable[..., Suite], dict[str, Any], str]] = [
    (Corruption, {"corruptions": 3}, "--corruptions takes main|extra|all|NAMES, got '3'"),
    (Corruption, {"corruptions": (3, 4)}, "--corruptions takes"),
    (Corruption, {"severity": "high"}, "severities are 1 to 5, got high"),
    (Corruption, {"severity": 2.5}, r"--severity takes N,...|LOW-HIGH, got '2.5'"),
    (Corruption, {"severity": {1: 2}}, "--severity takes"),
    (Corruption, {"severity": True}, "--severity takes"),
    (Shuffle, {"trials": 2.5}, "--trials takes N, got '2.5'"),
    (Shuffle, {"pieces": "four"}, "--pieces takes N,..., got 'four'"),
    (Occlusion, {"grid": (4, 4, 4)}, "--grid takes ROWSxCOLUMNS"),
    (Occlusion, {"saliency_file": 3}, "--saliency-file takes FILE, got '3'"),
    (Calibration, {"paper_tool": "yes"}, "--paper-tool takes"),
    (Masking, {"eps": object()}, "--eps takes 8/255"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_what_is_of_no_such_type_is_one_line(case: int) -> None:
    kind, given, text = WRONG[case]
    with pytest.raises(UsageError) as caught:
        kind(**given)
    assert text in caught.value.message


def test_endless_values_are_refused_without_being_read_to_their_end() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 4

    with pytest.raises(UsageError, match="pieces takes"):
        Shuffle(pieces=endless())  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Foreign(Suite):
    """Somebody's suite, with fields that no flag can have."""

    chooser: Callable[[int], int] = abs
    weights: list[float] | None = None
    anything: Any = None


def test_suites_of_others_may_have_fields_of_any_type() -> None:
    made = Foreign(chooser=len, weights=[0.5], anything=object())  # type: ignore[arg-type]
    assert made.chooser is len  # type: ignore[comparison-overlap]
    assert made.weights == [0.5]
    with pytest.raises(UsageError, match="weights takes VALUE"):
        Foreign(weights="0.5")  # type: ignore[arg-type]
