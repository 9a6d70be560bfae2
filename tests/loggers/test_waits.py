"""Who listens makes no GPU wait: counted on a pretended one, over whole epochs."""

from pathlib import Path

import pytest

from benchmarks.pretended_gpu import GPU, Count, pretended_gpu
from robustmix import batch_memory
from robustmix.loggers import Event, Hook, Scalars
from robustmix.signals import StopRequest
from robustmix.training import watch
from robustmix.training.loop import work
from robustmix.training.progress import Silence
from robustmix.training.run import Run
from robustmix.training.run_folder import RunFolder, prepare_run


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks a real card, and has nothing to do with what is told."""
    monkeypatch.setattr(batch_memory, "device_memory", lambda device: 2**34)
    monkeypatch.setattr(Run, "_save", lambda *_, **__: None)


def counted(folder: Path, hook: Hook | None) -> Count:
    settings = {
        "epochs": 2, "batch_size": 8, "limit_train": 40, "limit_val": 8, "compile": "off",
    }  # fmt: skip
    with pretended_gpu() as count:
        place = RunFolder(path=folder)
        begun = prepare_run("digits-resnet8-mixup", place, "never", False, settings, None, GPU)
        run = Run(
            folder=place, recipe=begun.recipe, data=begun.data, device=GPU, checkpoint=None,
            allow_download=False, say=lambda text: None,
        )  # fmt: skip
        work(run, Silence(), StopRequest(), hook, 1e9, 0)
        return count


def test_what_is_told_comes_with_looks_that_are_made_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps with five looks told to a hook: five waits more than with no look and no hook."""
    alone = counted(tmp_path / "alone", None)
    monkeypatch.setattr(watch, "CHECK_EVERY", 2)
    events: list[Event] = []
    told = counted(tmp_path / "told", events.append)
    assert [one.step for one in events if isinstance(one, Scalars)] == [2, 4, 5, 6, 8, 10]
    assert sum(told.waits.values()) - sum(alone.waits.values()) == 5, told.table(10)
