"""Whatever goes wrong inside a suite fails that suite alone, and says which."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from robustmix.attacks import ATTACKS
from robustmix.errors import IncompleteError, IntakeError, RobustmixError
from robustmix.evaluation.evaluate import evaluate, exit_code
from robustmix.evaluation.faults import out_of_memory
from robustmix.evaluation.suites.masking import PreparedMasking
from robustmix.evaluation.suites.shuffle import PreparedShuffle, Shuffle
from robustmix.report.report import Report
from robustmix.report.terminal import error_lines
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

GRIDS = Shuffle(pieces=(4,), trials=1)


def failed(report: Report, key: str, *others: str) -> str:
    """Check that one suite failed and the others did not, and give the line that says so."""
    statuses = {name: part.status for name, part in report.content.suites.items()}
    assert statuses == dict.fromkeys(("clean", *others), "ok") | {key: "failed"}
    assert exit_code(report) == 4
    assert report.samples is not None
    assert key not in report.samples.tables
    (line,) = error_lines(report)
    assert key in line
    assert (report.content.suites[key].reason or "") in line
    return line


@pytest.fixture
def stranger() -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Register somebody's attack under the name ``stranger`` for one test."""
    with ATTACKS.temporary():
        yield lambda function: ATTACKS.register("stranger", function)


def broken(kind: type[BaseException], *arguments: object) -> Callable[..., Any]:
    def stranger(model: Any, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        """Break."""
        raise kind(*arguments)

    return stranger


def giving(make: Callable[[Tensor], Any]) -> Callable[..., Any]:
    def stranger(model: Any, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        """Give something."""
        found: Tensor = make(images)
        return found

    return stranger


def asking(make: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """An attack that asks the model about what no model takes."""

    def stranger(model: Any, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        """Ask."""
        model(make(images))
        return images

    return stranger


FAULTS: dict[str, Callable[..., Any]] = {
    "ValueError": broken(ValueError, "x"),
    "ZeroDivisionError": broken(ZeroDivisionError),
    "RecursionError": broken(RecursionError, "too deep"),
    "SystemExit": broken(SystemExit, 0),
    "IncompleteError": broken(IncompleteError, "it gave up"),
    "long": broken(RuntimeError, "x" * 10_000),
    "lines": broken(RuntimeError, "a\n\x1b[2Jb"),
    "NaN": giving(lambda images: images * torch.nan),
    "infinity": giving(lambda images: images + torch.inf),
    "another shape": giving(lambda images: images[:, :, 1:]),
    "fewer": giving(lambda images: images[:-1]),
    "nothing": giving(lambda images: None),
    "a list": giving(lambda images: images.tolist()),
    "outside the ball": giving(lambda images: 1 - images),
    "asks about NaN": asking(lambda images: images * torch.nan),
    "asks about a view": asking(lambda images: images[0]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_of_an_attack_is_its_own(
    stranger: Callable[[Callable[..., Any]], None], fault: str
) -> None:
    stranger(FAULTS[fault])
    report = evaluate(
        tiny_model(), tiny_images(40), ["clean", attack("fgsm", sweep=()), attack("stranger")]
    )
    line = failed(report, "stranger", "fgsm")
    assert line.startswith("error[E-")
    assert len(line) <= 700
    assert line.isprintable()


def raised(*arguments: object, **named: object) -> NoReturn:
    raise TypeError("planted")


def test_a_fault_of_ours_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    want = evaluate(tiny_model(), tiny_images(40), ["clean", attack("fgsm", sweep=())])
    names = ("parts", "_rows", "check", "numbers", "found", "shown", "judge", "warnings", "order")
    for name in names:
        with monkeypatch.context() as patch:
            patch.setattr(PreparedShuffle, name, raised)
            report = evaluate(
                tiny_model(), tiny_images(40), ["clean", attack("fgsm", sweep=()), GRIDS]
            )
        line = failed(report, "shuffle", "fgsm")
        assert line.startswith("error[E-SUITE-RAISED]: suite shuffle raised TypeError: planted")
        assert "test_faults.py:" in line
        for key in ("clean", "fgsm"):
            assert comparable(report)["suites"][key] == comparable(want)["suites"][key]


def test_a_suite_that_cannot_be_prepared_stops_all_or_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Shuffle, "prepare", raised)
    with pytest.raises(RobustmixError, match="suite shuffle raised TypeError: planted"):
        evaluate(tiny_model(), tiny_images(40), ["clean", GRIDS])
    report = evaluate(tiny_model(), tiny_images(40), ["clean", GRIDS], keep_going=True)
    failed(report, "shuffle")


def test_what_a_verdict_of_others_costs_is_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreparedMasking, "judge", raised)
    report = evaluate(tiny_model(), tiny_images(40), ["clean", "masking", GRIDS])
    failed(report, "masking", "shuffle")


def test_ctrl_c_is_no_fault(stranger: Callable[[Callable[..., Any]], None]) -> None:
    stranger(broken(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny_model(), tiny_images(40), ["clean", attack("stranger")])


def test_a_model_that_raises_at_once_is_one_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise IndexError("no such layer")

    with pytest.raises(IntakeError, match="the model raised IndexError on the first") as caught:
        evaluate(tiny_model(Broken()), tiny_images(40), ["clean"])
    assert (caught.value.code, caught.value.exit_code) == ("E-FORWARD", 3)


SMALL = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"


class Small(nn.Module):
    """Has memory for so many images, and for a quarter of these where gradients are taken."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.net, self.most, self.error, self.sizes = Net(), most, error, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) * (4 if x.requires_grad else 1) > self.most:
            raise self.error
        logits: Tensor = self.net(x)
        return logits


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(SMALL),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "numpy"],
)
def test_where_memory_runs_out_a_smaller_batch_gives_the_same_numbers(
    error: BaseException,
) -> None:
    assert out_of_memory(error)
    suites: list[Any] = ["clean", attack("fgsm", sweep=()), GRIDS]
    want = evaluate(tiny_model(Small(1000, error)), tiny_images(), suites)
    net = Small(96, error)
    found = evaluate(tiny_model(net), tiny_images(), suites, batch_size=96)
    assert found.content.run.status == "success"
    # Only the gradients of FGSM need more than there is; what comes after stays small.
    assert net.sizes[-3:] == [24, 24, 8]
    (warning,) = [w for w in found.content.warnings if w.code == "W-BATCH-SIZE"]
    assert "batches of 96" in warning.message
    assert "--batch-size 24" in warning.message
    assert comparable(found)["suites"] == comparable(want)["suites"]


def test_a_suite_that_needs_too_much_fails_alone() -> None:
    suites: list[Any] = ["clean", attack("fgsm", sweep=()), GRIDS]
    net = Small(20, torch.OutOfMemoryError("CUDA out of memory."))
    report = evaluate(tiny_model(net), tiny_images(40), suites, batch_size=64)
    line = failed(report, "fgsm", "shuffle")
    assert line.startswith("error[E-MEMORY]: suite fgsm ran out of memory; give a smaller --batch")


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not out_of_memory(error)
    net = Small(40, error)
    report = evaluate(tiny_model(net), tiny_images(), ["clean", GRIDS], batch_size=103)
    assert report.content.suites["clean"].status == "failed"
    assert net.sizes.count(104) == 1
