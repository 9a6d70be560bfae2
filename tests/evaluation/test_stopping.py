"""An evaluation stops before the next pass of the network, says so and keeps what is done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import robustmix
from robustmix.evaluation.engine import Interrupted
from robustmix.evaluation.evaluate import evaluate, exit_code
from robustmix.evaluation.progress import Silence
from robustmix.evaluation.recompute import recompute
from robustmix.report.report import Report
from robustmix.signals import stop_on_signals
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

PGD: list[Any] = ["clean", attack("pgd", steps=12, sweep=())]


@pytest.fixture(autouse=True)
def not_detached() -> Iterator[None]:
    """Hear SIGHUP as a terminal's process does: the tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Counting(nn.Module):
    """Counts its passes, and sends itself a signal in one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.passes, self.at, self.signal = Net(), 0, -1, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == self.at:
            os.kill(os.getpid(), self.signal)
        logits: Tensor = self.net(x)
        return logits


class Told(Silence):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.stopped = 0

    def advance(self, suite: str, part: str, samples: int) -> None:
        self.done[part] = self.done.get(part, 0) + samples

    def stopping(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
@pytest.mark.parametrize("at", [30, 100, 120])
def test_a_signal_is_answered_before_the_next_pass(
    tmp_path: Path, number: signal.Signals, at: int
) -> None:
    whole = evaluate(tiny_model(Counting()), tiny_images(), PGD, batch_size=16)
    net, told = Counting(), Told()
    net.at, net.signal = at, number
    cut = evaluate(tiny_model(net), tiny_images(), PGD, out=tmp_path, batch_size=16, progress=told)
    assert net.passes == at
    assert told.stopped == 1
    assert cut.content.run.status == "interrupted"
    assert cut.content.suites["pgd"].status == "partial"
    assert exit_code(cut) == 128 + number
    assert Report.load(tmp_path).content.suites["clean"].status == "ok"
    # Whole batches of the search are kept, and only what is left of it is done.
    again = Told()
    done = evaluate(
        tiny_model(Counting()), tiny_images(), PGD, out=tmp_path, batch_size=9, resume=True,
        progress=again,
    )  # fmt: skip
    kept = told.done.get("eps0.03137", 0)
    assert kept % 16 == 0
    assert (kept > 0) == (at > 30)
    assert comparable(done) == comparable(whole)
    assert recompute(done) == []
    assert not (tmp_path / "units").exists()


def test_what_is_kept_of_a_unit_is_not_computed_again(tmp_path: Path) -> None:
    net = Counting()
    net.at, net.signal = 100, signal.SIGINT
    evaluate(tiny_model(net), tiny_images(), PGD, out=tmp_path, batch_size=16)
    full, rest = Counting(), Counting()
    evaluate(tiny_model(full), tiny_images(), PGD, batch_size=16)
    evaluate(tiny_model(rest), tiny_images(), PGD, out=tmp_path, batch_size=16, resume=True)
    # The checks of the model are made again, and the batch that was cut.
    assert rest.passes < full.passes - 70


def test_attacks_of_others_cannot_swallow_the_stop() -> None:
    """Many catch every exception of the model and go on with the clean image."""
    assert not issubclass(Interrupted, Exception)


def test_signals_are_put_back_and_nohup_stays() -> None:
    before = {number: signal.getsignal(number) for number in (2, 15, 1)}
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert (stop(), stop.signal) == (True, signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in before} == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before[1])


EVALUATION = """
import sys, torch, robustmix
from torch import nn
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.progress import PlainLines
from robustmix.cli import console
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
)
kw = dict(mean=(0.5,) * 3, std=(0.25,) * 3)
images = torch.randint(0, 256, (400, 3, 32, 32), dtype=torch.uint8)
model = robustmix.load_model(net, num_classes=10, input_size=(3, 32, 32), **kw)
labels = torch.cat([model(some.float() / 255).argmax(1) for some in images.split(100)])
data = ImageSet(
    name="noise", split="test", pixels=TensorPixels(images), labels=labels,
    sample_ids=tuple(map(str, range(400))), class_names=tuple(map(str, range(10))), **kw,
)
report = robustmix.evaluate(
    model, data, ["pgd"], steps=50, eps="1/2550", masking="off",
    out=sys.argv[1], progress=PlainLines(console.talk()),
)
from robustmix.evaluation.evaluate import exit_code
sys.exit(exit_code(report))
"""


def spent(pid: int) -> float:
    """Seconds of processor time of a process that still runs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_pgd_50_on_400_images_stops_within_seconds(tmp_path: Path, number: signal.Signals) -> None:
    root = str(Path(robustmix.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", EVALUATION, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "pgd: " not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(4)
    before = spent(process.pid)
    process.send_signal(number)
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 128 + number
    assert "stopping" in said
    # Of the processor, not by the clock: the machine may be busy with other tests.
    took = usage.ru_utime + usage.ru_stime - before
    assert took < 3, took
    assert Report.load(tmp_path).content.suites["pgd"].status == "partial"
