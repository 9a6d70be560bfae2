from pathlib import Path

import pytest
import torch

from robustmix.environment import choose_device, describe_environment, timestamp
from robustmix.errors import UsageError
from robustmix.runs import evaluation_folder, training_folder


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UsageError, match=name):
            choose_device(name)


def test_the_environment_names_versions_and_no_host() -> None:
    import platform

    environment = describe_environment(torch.device("cpu"))
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]  # type: ignore[index]
    assert platform.node() not in str(environment.values()).split()


def test_source_date_epoch_fixes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert timestamp() == "1970-01-01T00:00:00Z"


def test_run_folders_are_named_by_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTMIX_RUNS", "/r")
    one = training_folder({"lr": 1}, "folder:/a b", "timm:x", "mixup")
    assert one == training_folder({"lr": 1}, "folder:/a b", "timm:x", "mixup")
    assert one != training_folder({"lr": 2}, "folder:/a b", "timm:x", "mixup")
    assert one.parent == Path("/r")
    assert one.name.startswith("folder-a-b-timm-x-mixup-")
    assert evaluation_folder("last", {}).parent == Path("/r")
