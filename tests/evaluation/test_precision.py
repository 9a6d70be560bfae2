"""--precision acts on the network alone, is in the report, and no comparison is silent about it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.errors import IncompatibleError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.models.robust_model import RobustModel
from robustmix.precision import checked_precision, computing_in, tf32
from robustmix.report.report import Report
from tests.evaluation.attacks import attack
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images, tiny_model

CPU = torch.device("cpu")


def test_what_a_device_does_not_have_is_refused() -> None:
    assert checked_precision("bf16", CPU) == "bf16"
    with pytest.raises(UsageError, match="NVIDIA's GPUs multiply, and this runs on cpu") as caught:
        evaluate(tiny_model(), tiny_images(), ["clean"], precision="tf32")
    assert caught.value.line().startswith("error[E-PRECISION]: --precision tf32")
    with pytest.raises(UsageError, match="did you mean 'bf16'"):
        evaluate(tiny_model(), tiny_images(), ["clean"], precision="bf-16")


@pytest.mark.parametrize(("capability", "refused"), [((7, 5), True), ((8, 0), False)])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_old_gpus_are_refused(
    precision: str, capability: tuple[int, int], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu = torch.device("cuda", 0)
    if refused:
        with pytest.raises(UsageError, match="needs compute capability"):
            checked_precision(precision, gpu)
    else:
        assert checked_precision(precision, gpu) == precision


class Spy(nn.Module):
    """Keeps how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.asked: list[tuple[torch.dtype, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        matmul = torch.backends.cuda.matmul.allow_tf32
        self.asked.append((x.dtype, torch.is_autocast_enabled("cpu"), matmul))
        found: Tensor = self.net(x)
        return found


def test_the_network_alone_computes_so() -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = Spy()
    plain = RobustModel(
        net, mean=MEAN, std=STD, num_classes=4, input_size=(3, 32, 32), class_map=[0, 1, 2, 3, 3]
    )
    rounded = plain.in_precision("bf16")
    assert plain.in_precision("fp32") is plain
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the second implementation
        outputs = net.net((x - plain.mean) / plain.std)
    outputs = outputs.float()
    last = outputs[:, 3:].logsumexp(dim=1, keepdim=True)
    torch.testing.assert_close(rounded(x), torch.cat([outputs[:, :3], last], dim=1))
    assert not torch.equal(rounded(x), plain(x))
    torch.testing.assert_close(rounded(x), plain(x), rtol=0.05, atol=0.1)
    before = tf32_flags()
    rounded.in_precision("tf32")(x)
    assert tf32_flags() == before
    kinds = [asked[1:] for asked in net.asked]
    assert kinds == [(True, False), (True, False), (False, False), (True, False), (False, False),
                     (False, True)]  # fmt: skip
    assert not torch.is_autocast_enabled("cpu")
    assert plain(x).dtype == rounded(x).dtype == torch.float32
    with computing_in("tf32", CPU), tf32(False):
        assert tf32_flags() == (False, False)
    assert tf32_flags() == before


def tf32_flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, precision in (("fp32", "fp32"), ("bf16", "bf16"), ("again", "bf16")):
        folders[name] = tmp_path_factory.mktemp(name)
        suites: list[Any] = ["clean", "shuffle", attack("fgsm", sweep=())]
        report = evaluate(
            tiny_model(), tiny_images(), suites, precision=precision, out=folders[name]
        )
        assert report.content.run.status == "success"
    return folders


def test_the_report_says_it_and_its_numbers_are_others(reports: dict[str, Path]) -> None:
    plain, rounded = (Report.load(reports[p]) for p in ("fp32", "bf16"))
    assert (plain.content.model.precision, rounded.content.model.precision) == ("fp32", "bf16")
    assert [w.code for w in plain.content.warnings if w.code == "W-PRECISION"] == []
    (warning,) = [w for w in rounded.content.warnings if w.code == "W-PRECISION"]
    assert "computed in bf16" in warning.message
    assert plain.content.run.fingerprint != rounded.content.run.fingerprint
    assert plain.content.model.state_sha256 == rounded.content.model.state_sha256
    assert plain.samples is not None
    assert rounded.samples is not None
    z, r = plain.samples.clean_logits(), rounded.samples.clean_logits()
    assert not np.array_equal(z, r)
    assert np.abs(z - r).max() < 0.05 * np.abs(z).max()
    # Rounding is no sign that the network answers at random or by the batch.
    assert "W-BATCH-DEPENDENT" not in [w.code for w in rounded.content.warnings]
    assert rounded.content.model.checks["batch_tolerance"] == 0.02


def test_older_reports_are_of_float32(reports: dict[str, Path]) -> None:
    content = json.loads((reports["fp32"] / "report.json").read_text())
    assert content["model"].pop("precision") == "fp32"
    assert Report.load(reports["fp32"]).content.model.precision == "fp32"


def test_comparisons_say_so(reports: dict[str, Path]) -> None:
    paths = [reports[p] / "report.json" for p in ("fp32", "bf16")]
    told = "W-PRECISION: the networks computed in fp32 and bf16"
    assert [w for w in compare(*paths).comparisons[0].warnings if w.startswith(told)]
    same = compare(paths[1], reports["again"]).comparisons[0].warnings
    assert not [w for w in same if w.startswith("W-PRECISION")]
    verdict = check(paths[1], paths[0])
    assert [w for w in verdict.warnings if w.startswith(told)]
    with pytest.raises(IncompatibleError, match="precisions"):
        merge_reports([Report.load(reports[p]) for p in ("fp32", "bf16")])


def test_units_of_another_precision_are_not_continued(tmp_path: Path) -> None:
    data = tiny_images()
    evaluate(tiny_model(), data, ["clean", "shuffle"], out=tmp_path, should_stop=lambda: True)
    with pytest.raises(IncompatibleError, match="model, data or seed"):
        evaluate(
            tiny_model(), data, ["clean", "shuffle"], out=tmp_path, resume=True, precision="bf16"
        )
