"""mCE by hand, and what it may be divided by."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from robustmix.corruptions import MAIN
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.metrics.mce import ALEXNET, MceReference, load_reference, mce, relative_mce
from robustmix.report import Report
from tests.evaluation.tiny import tiny_images, tiny_model


def test_by_hand() -> None:
    """Two images; error 0.5 under every corruption, twice what the reference makes of the first."""
    errors = (0.25, *[0.5] * 14)
    reference = MceReference(
        name="x", dataset="cifar10", source="official", clean=0.1, errors=errors
    )
    wrong = {name: np.array([0.2, 0.8]) for name in MAIN}
    got = mce(wrong, reference).metric()
    assert got.value == pytest.approx(100 * (2 + 14) / 15)
    lost = relative_mce(wrong, np.array([0.0, 0.0]), reference).metric()
    assert lost.value == pytest.approx(100 * (0.5 / 0.15 + 14 * 0.5 / 0.4) / 15)
    # the images' own shares are 0.2 / 0.5 and 0.8 / 0.5 of the mean: mean +- 1.96 sd / sqrt(2)
    half = 1.959963984540054 * np.std([0.2, 0.8], ddof=1) / 2**0.5 * 100 * (1 / 0.25 + 28) / 15
    assert got.ci is not None
    assert got.ci[1] - got.ci[0] == pytest.approx(2 * half)


def test_alexnet_is_100_in_its_own_units() -> None:
    wrong = {name: np.array([e, e]) for name, e in zip(MAIN, ALEXNET.errors, strict=True)}
    assert mce(wrong, ALEXNET).estimate() == pytest.approx(100)
    clean = np.array([ALEXNET.clean] * 2)
    assert relative_mce(wrong, clean, ALEXNET).estimate() == pytest.approx(100)


def test_a_reference_that_loses_nothing_makes_the_relative_one_undefined() -> None:
    reference = MceReference(
        name="x", dataset="d", source="official", clean=0.5, errors=(0.5, *[0.6] * 14)
    )
    wrong = {name: np.ones(3) for name in MAIN}
    assert mce(wrong, reference).metric().value is not None
    lost = relative_mce(wrong, np.zeros(3), reference).metric()
    assert (lost.value, lost.n, lost.unit) == (None, 3, "percent")
    assert "no worse under a corruption" in str(lost.reason)
    with pytest.raises(ValueError, match="15 errors"):
        MceReference(name="x", dataset="d", source="official", clean=0.5, errors=(0.5,))


def test_divided_by_a_report_of_itself_it_is_100(tmp_path: Path) -> None:
    data, model = tiny_images(23), tiny_model()
    first = evaluate(model, data, ["clean", Corruption(corruptions="main")])
    assert first.metric("corruption.mce").value is None
    first.save(tmp_path)
    suite = Corruption(corruptions="main", mce_reference=str(tmp_path))
    second = evaluate(model, data, ["clean", suite])
    assert second.metric("corruption.mce").value == pytest.approx(100)
    relative = second.metric("corruption.relative_mce")
    assert relative.value is None or relative.value == pytest.approx(100)
    second.save(tmp_path / "second")
    assert recompute(Report.load(tmp_path / "second")) == []
    part = Corruption(corruptions="brightness", mce_reference=str(tmp_path))
    third = evaluate(model, data, ["clean", part])
    reason = third.metric("corruption.mce").reason
    assert reason is not None
    assert "15 main corruptions" in reason


def refer(reference: Path | str, dataset: str, source: str) -> MceReference:
    return load_reference(str(reference), dataset, known_as=dataset, source=source)


def test_references_of_other_images_are_refused(tmp_path: Path) -> None:
    """Frost made with textures and frost made with photographs are different images."""
    data, model = tiny_images(7), tiny_model()
    evaluate(model, data, ["clean", Corruption(corruptions="main")]).save(tmp_path)
    found = refer(tmp_path, "tiny", "generated (substitute for frost)")
    assert found.sha256 == hashlib.sha256((tmp_path / "report.json").read_bytes()).hexdigest()
    for source in ("generated", "official"):
        with pytest.raises(IncompatibleError, match=f"substitute for frost.*, these are {source}"):
            refer(tmp_path, "tiny", source)


def test_references_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="imagenet-1k, not of cifar10"):
        refer("alexnet", "cifar10", "official")
    assert refer("alexnet", "imagenet-1k", "official") is ALEXNET
    folder = {"known_as": "imagenet-1k", "source": "official"}
    assert load_reference("alexnet", "folder:val", **folder) is ALEXNET
    with pytest.raises(IncompatibleError, match="of official images, these are generated"):
        refer("alexnet", "imagenet-1k", "generated")
    report = evaluate(tiny_model(), tiny_images(5), ["clean", Corruption(corruptions="fog")])
    report.save(tmp_path)
    with pytest.raises(IntakeError, match="lacks some of the 15"):
        refer(tmp_path, report.content.dataset.name, "official")
    with pytest.raises(IncompatibleError, match="not on cifar10"):
        refer(tmp_path, "cifar10", "official")
