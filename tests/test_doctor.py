"""Every self-test passes here, and fails once the thing it checks is broken."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from robustmix import philox
from robustmix.data.manifests import DATASETS
from robustmix.doctor import (
    CHECKS,
    attack_checks,
    expectations,
    input_checks,
    metric_checks,
    model_checks,
)
from robustmix.doctor.machine import find_data, probe_speed
from robustmix.doctor.run import examine, run_check
from robustmix.errors import UsageError
from robustmix.metrics import binned, scores
from robustmix.metrics import temperature as scaling
from robustmix.models import load_checkpoint
from robustmix.models.robust_model import RobustModel

CPU = torch.device("cpu")
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_passes_here(name: str) -> None:
    finding = run_check(name, CPU)
    assert finding.ok, finding.line
    assert finding.line == f"ok {name}: {finding.detail} ({finding.tolerance})"
    assert finding.detail
    assert "\n" not in finding.line
    assert finding.about.endswith(".")


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_names_the_tolerances_that_it_uses(name: str, monkeypatch: Patch) -> None:
    used: set[float] = set()

    def watched(found: Any, known: Any, what: str, *, within: float) -> None:
        used.add(within)
        expectations.expect_close(found, known, what, within=within)

    for module in (attack_checks, input_checks, metric_checks, model_checks):
        monkeypatch.setattr(module, "expect_close", watched)
    finding = run_check(name, CPU)
    assert finding.ok, finding.line
    named = {float(number) for number in re.findall(r"1e-\d+", finding.tolerance)}
    assert named == used - {0}
    assert ("exact" in finding.tolerance) == (not named or 0 in used)
    wrong = re.search("bit for bit|equal|same bits", f"{finding.about} {finding.detail}")
    assert not (named and wrong), finding.line


def half_the_radius(patch: Patch) -> None:
    true: Any = vars(attack_checks)["fgsm"]
    patch.setattr(attack_checks, "fgsm", lambda m, x, y, *, eps: true(m, x, y, eps=eps / 2))


def radius_after_normalisation(patch: Patch) -> None:
    def normalised(model: RobustModel, x: torch.Tensor, y: torch.Tensor, *, eps: float) -> Any:
        sign = (true(model, x, y, eps=0.1) - x).sign()
        return x + eps * model.std * sign

    true: Any = vars(attack_checks)["fgsm"]
    patch.setattr(attack_checks, "fgsm", normalised)


def downhill(patch: Patch) -> None:
    true: Any = vars(attack_checks)["fgsm"]
    patch.setattr(attack_checks, "fgsm", lambda m, x, y, *, eps: 2 * x - true(m, x, y, eps=eps))


def clamp_of_the_normalised_image(patch: Patch) -> None:
    def clamped(model: RobustModel, x: torch.Tensor, y: torch.Tensor, *, eps: float) -> Any:
        moved = (true(model, x, y, eps=eps) - model.mean) / model.std
        return moved.clamp(0, 1) * model.std + model.mean

    true: Any = vars(attack_checks)["fgsm"]
    patch.setattr(attack_checks, "fgsm", clamped)


def one_step(patch: Patch) -> None:
    true: Any = vars(attack_checks)["pgd"]
    patch.setattr(attack_checks, "pgd", lambda *a, **k: true(*a, **{**k, "steps": 1}))


def moved_running_statistics(patch: Patch) -> None:
    def leaky(model: Any, *a: Any, **k: Any) -> Any:
        moved = true(model, *a, **k)
        model.net.norm.num_batches_tracked += 1
        return moved

    true: Any = vars(attack_checks)["fgsm"]
    patch.setattr(attack_checks, "fgsm", leaky)


def trusting_harness(patch: Patch) -> None:
    patch.setattr(attack_checks, "verify", lambda *a, **k: None)


def no_projection(patch: Patch) -> None:
    patch.setattr("robustmix.attacks.harness.project", lambda images, adversarial, **k: adversarial)


def no_range_check(patch: Patch) -> None:
    patch.setattr("robustmix.models.robust_model.refuse_out_of_range", lambda low, high: None)


def no_normalisation(patch: Patch) -> None:
    patch.setattr(RobustModel, "forward", lambda self, images: self.net(images))


def no_mode_check(patch: Patch) -> None:
    patch.setattr(RobustModel, "check_mode", lambda self, modules: None)


def centred_on_the_batch(patch: Patch) -> None:
    patch.setattr(model_checks, "padded", lambda model: lambda x: model(x) - model(x).mean(dim=0))


def noisy_model(patch: Patch) -> None:
    def noisy(self: RobustModel, images: torch.Tensor) -> torch.Tensor:
        logits = true(self, images)
        return logits + 1e-3 * torch.rand_like(logits)

    true = RobustModel.forward
    patch.setattr(RobustModel, "forward", noisy)


def autocast(patch: Patch) -> None:
    @contextlib.contextmanager
    def rough(device: torch.device) -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16):
            yield

    patch.setattr(model_checks, "guarded", rough)


def lost_temperature(patch: Patch) -> None:
    true: Any = vars(model_checks)["save_checkpoint"]
    patch.setattr(
        model_checks,
        "save_checkpoint",
        lambda path, checkpoint: true(path, replace(checkpoint, calibration=None)),
    )


def wrong_mean(patch: Patch) -> None:
    true: Any = vars(model_checks)["save_checkpoint"]
    patch.setattr(
        model_checks,
        "save_checkpoint",
        lambda path, checkpoint: true(path, replace(checkpoint, mean=(0.4, 0.5, 0.5))),
    )


def loose_load(patch: Patch) -> None:
    patch.setattr(load_checkpoint, "check_state", lambda net, state, name: None)
    patch.setattr(
        load_checkpoint,
        "load_strictly",
        lambda net, state, name: net.load_state_dict(state, strict=False),
    )


def credulous_load(patch: Patch) -> None:
    true: Any = vars(model_checks)["load_model"]
    patch.setattr(model_checks, "load_model", lambda path: true(path, trust_checkpoint=True))


def never_probabilities(patch: Patch) -> None:
    patch.setattr(model_checks, "looks_like_probabilities", lambda values: False)


def always_probabilities(patch: Patch) -> None:
    patch.setattr(model_checks, "looks_like_probabilities", lambda values: True)


def rank_from_one(patch: Patch) -> None:
    def shifted(z: Any, labels: Any) -> Any:
        found = true(z, labels)
        return replace(found, rank=found.rank + 1)

    true = scores._score_block
    patch.setattr(scores, "_score_block", shifted)


def rounded_bins(patch: Patch) -> None:
    patch.setattr(
        binned,
        "bin_index",
        lambda c, bins: np.clip(np.rint(bins * c).astype(np.int64) - 1, 0, bins - 1),
    )


def paper_tool_for_ece(patch: Patch) -> None:
    patch.setattr(binned, "ece", binned.paper_tool_error)


def ece_for_paper_tool(patch: Patch) -> None:
    patch.setattr(binned, "paper_tool_error", binned.ece)


def hidden_last_bin(patch: Patch) -> None:
    """A confidence of 1 falls into a bin that is not summed, as in torchmetrics."""

    def lost(confidence: Any, correct: Any, bins: int = 15) -> float:
        kept = np.asarray(confidence) < 1
        return true(confidence[kept], correct[kept], bins) if kept.any() else 0.0

    true: Any = vars(metric_checks)["expected_calibration_error"]
    patch.setattr(metric_checks, "expected_calibration_error", lost)


def any_precision(patch: Patch) -> None:
    patch.setattr(scores, "as_logits", lambda logits: np.asarray(logits, dtype=np.float32))


def no_scaling(patch: Patch) -> None:
    true = scaling._nll_slope
    patch.setattr(scaling, "_nll_slope", lambda z, y, inverse: true(z, y, inverse) - 0.1)


def overlap_allowed(patch: Patch) -> None:
    patch.setattr(scaling, "refuse_overlap", lambda scored, fitted_to: None)


def nan_is_wrong(patch: Patch) -> None:
    patch.setattr(scores, "check_finite", lambda logits, ids=None: None)
    true: Any = vars(metric_checks)["score_logits"]

    def quiet(*a: Any, **k: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return true(*a, **k)

    patch.setattr(metric_checks, "score_logits", quiet)


def wald(right: int, n: int) -> tuple[float, float]:
    p = right / n
    half = 1.96 * (p * (1 - p) / n) ** 0.5
    return p - half, p + half


def wald_intervals(patch: Patch) -> None:
    patch.setattr(metric_checks, "wilson", wald)


def no_suspicion(patch: Patch) -> None:
    patch.setattr(metric_checks, "suspected_order", lambda pred, labels, k: None)


def swapped_multipliers(patch: Patch) -> None:
    patch.setattr(philox, "_BY_PAIR", philox._BY_PAIR[::-1])


def other_keys(patch: Patch) -> None:
    true: Any = vars(input_checks)["sample_keys"]
    patch.setattr(input_checks, "sample_keys", lambda *fields: true(*fields) ^ 1)


def draws_by_place(patch: Patch) -> None:
    true: Any = vars(input_checks)["corrupt"]
    patch.setattr(
        input_checks, "corrupt", lambda images, name, severity, *, seed, sample_ids=None: true(
            images, name, severity, seed=seed
        ),
    )  # fmt: skip


def one_draw_for_all(patch: Patch) -> None:
    true: Any = vars(input_checks)["corrupt"]
    patch.setattr(
        input_checks, "corrupt", lambda images, name, severity, *, seed, sample_ids=None: true(
            images, name, severity, seed=seed, sample_ids=["one"] * len(images)
        ),
    )  # fmt: skip


def wrap_around(patch: Patch) -> None:
    patch.setattr(
        input_checks,
        "corrupt",
        lambda images, name, severity, seed: (images.int() + 13 * severity).to(torch.uint8),
    )


def other_quality(patch: Patch) -> None:
    true: Any = vars(input_checks)["jpeg_round_trip"]
    patch.setattr(input_checks, "jpeg_round_trip", lambda images, q: true(images, q + 1))


def turned_by_exif(patch: Patch) -> None:
    def turned(path: Path) -> Image.Image:
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")

    patch.setattr(input_checks, "open_rgb", turned)


def mode_as_stored(patch: Patch) -> None:
    def as_stored(path: Path) -> Image.Image:
        with Image.open(path) as image:
            return image.copy()

    patch.setattr(input_checks, "open_rgb", as_stored)


def bankers_rounding(patch: Patch) -> None:
    patch.setattr(input_checks, "mask_count", lambda ratio, patches: round(float(ratio * patches)))


def rounded_down(patch: Patch) -> None:
    patch.setattr(input_checks, "mask_count", lambda ratio, patches: int(ratio * patches))


def fill_of_another_set(patch: Patch) -> None:
    true: Any = vars(input_checks)["filling"]
    patch.setattr(
        input_checks,
        "filling",
        lambda images, fill, **k: true(images, fill, **{**k, "mean": (0.5, 0.5, 0.5)}),
    )


def last_batch_dropped(patch: Patch) -> None:
    def dropping(model: Any, data: Any, suites: Any, *, batch_size: int, device: str) -> Any:
        whole = data.subset(range(len(data) - len(data) % batch_size))
        return true(model, whole, suites, batch_size=batch_size, device=device)

    true: Any = vars(input_checks)["evaluate"]
    patch.setattr(input_checks, "evaluate", dropping)


def global_draws(patch: Patch) -> None:
    def drawing(*a: Any, **k: Any) -> Any:
        torch.rand(1)
        return true(*a, **k)

    true: Any = vars(input_checks)["evaluate"]
    patch.setattr(input_checks, "evaluate", drawing)


class Break(NamedTuple):
    """Something broken, and the self-test that must find it."""

    check: str
    by: Callable[[Patch], None]


BREAKS = [
    Break("fgsm_radius", half_the_radius),
    Break("fgsm_radius", radius_after_normalisation),
    Break("fgsm_radius", downhill),
    Break("eps_zero", clamp_of_the_normalised_image),
    Break("pgd_optimum", one_step),
    Break("attack_mode", moved_running_statistics),
    Break("attack_ball", trusting_harness),
    Break("attack_ball", no_projection),
    Break("normalisation", no_range_check),
    Break("normalisation", no_normalisation),
    Break("eval_mode", no_mode_check),
    Break("eval_mode", noisy_model),
    Break("batch_independence", centred_on_the_batch),
    Break("determinism", noisy_model),
    Break("full_float32", autocast),
    Break("checkpoint", lost_temperature),
    Break("checkpoint", wrong_mean),
    Break("strict_load", loose_load),
    Break("strict_load", credulous_load),
    Break("logits", never_probabilities),
    Break("logits", always_probabilities),
    Break("accuracy", rank_from_one),
    Break("calibration", rounded_bins),
    Break("calibration", paper_tool_for_ece),
    Break("paper_ece", ece_for_paper_tool),
    Break("paper_ece", paper_tool_for_ece),
    Break("confidence_one", hidden_last_bin),
    Break("full_precision", any_precision),
    Break("temperature", no_scaling),
    Break("calibration_split", overlap_allowed),
    Break("nonfinite", nan_is_wrong),
    Break("intervals", wald_intervals),
    Break("class_order", no_suspicion),
    Break("random_numbers", swapped_multipliers),
    Break("random_numbers", other_keys),
    Break("draws_by_key", draws_by_place),
    Break("draws_by_key", one_draw_for_all),
    Break("uint8_wrap", wrap_around),
    Break("jpeg", other_quality),
    Break("image_files", turned_by_exif),
    Break("image_files", mode_as_stored),
    Break("mask_counts", bankers_rounding),
    Break("mask_counts", rounded_down),
    Break("mask_fill", fill_of_another_set),
    Break("batches", last_batch_dropped),
    Break("batches", global_draws),
]


def test_every_check_has_something_that_breaks_it() -> None:
    assert {each.check for each in BREAKS} == set(CHECKS)


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: f"{case.check}-{case.by.__name__}")
def test_every_check_fails_on_what_it_guards_against(case: Break, monkeypatch: Patch) -> None:
    case.by(monkeypatch)
    finding = run_check(case.check, CPU)
    assert not finding.ok
    assert finding.line.startswith(f"FAILED {case.check}: ")
    assert finding.detail


def test_an_unexpected_error_is_a_finding(monkeypatch: Patch) -> None:
    def missing(*a: object) -> None:
        raise AttributeError("module 'PIL' has no\nattribute 'Image'")

    monkeypatch.setattr(input_checks, "jpeg_round_trip", missing)
    assert run_check("jpeg", CPU).line == (
        "FAILED jpeg: AttributeError: module 'PIL' has no attribute 'Image' (exact)"
    )


def test_unknown_checks_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'jpeg'"):
        run_check("jpg", CPU)


def test_the_whole_result_is_json(tmp_path: Path) -> None:
    findings = [run_check("intervals", CPU)]
    result = examine(CPU, findings, data_dir=tmp_path, probe=False)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["ok"]
    assert result["environment"]["threads"] == torch.get_num_threads()
    assert result["checks"][0]["name"] == "intervals"
    assert result["checks"][0]["about"] == "Wilson's intervals at the known points."
    broken = replace(findings[0], ok=False)
    assert not examine(CPU, [findings[0], broken], data_dir=tmp_path, probe=False)["ok"]


def test_data_is_found_by_size(tmp_path: Path) -> None:
    nothing = dict.fromkeys(DATASETS, "missing") | {"digits": "embedded"}
    assert find_data(tmp_path) == nothing
    (tmp_path / "tiny-imagenet-200").mkdir()
    (tmp_path / "tiny-imagenet-200" / "wnids.txt").touch()
    assert find_data(tmp_path) == {**nothing, "tiny-imagenet": "found"}
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(b"x")
    assert find_data(tmp_path)["cifar100"] == "incomplete"


def test_the_probe_counts_images(monkeypatch: Patch) -> None:
    clock = iter(np.arange(100.0))  # every look at the clock is a second later
    monkeypatch.setattr("robustmix.doctor.machine.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("robustmix.doctor.machine.PROBE_ARCH", "resnet8")
    result = probe_speed(CPU, seconds=4)
    # Two batches of 16 in the two seconds of either direction.
    assert result["forward_images_per_s"] == result["forward_backward_images_per_s"] == 16
