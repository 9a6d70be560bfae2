"""Numbers and pictures as TensorBoard's event files."""

import json
from pathlib import Path

from robustmix.loggers.events import Event, Hook, Pictures, RunFinished, RunStarted, Scalars
from robustmix.loggers.events import SuiteFinished as Suite
from robustmix.loggers.memory import NOTHING, Memory


def open_tensorboard(started: RunStarted, folder: Path, memory: Memory) -> Hook:
    """Return a logger that writes a new event file into ``folder/tensorboard``.

    Steps of earlier files that a continued run makes again are purged: TensorBoard shows each once.
    Its numbers are float32. A metric of a suite is ``SUITE/METRIC`` at step 0.
    """
    from torch.utils.tensorboard import SummaryWriter

    last = memory.scalars if started.kind == "train" else (0 if memory.suites else NOTHING)
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)
    if last == NOTHING:
        config = json.dumps(dict(started.config), indent=2, default=str)
        writer.add_text("config", "    " + config.replace("\n", "\n    "), 0)

    def log(event: Event) -> None:
        match event:
            case Scalars():
                for name, value in {"epoch": event.epoch, **event.values}.items():
                    writer.add_scalar(name, value, event.step)
            case Pictures():
                writer.add_image(event.name, event.pixels, event.step, dataformats="HWC")
            case Suite():
                for name, value in event.metrics.items():
                    writer.add_scalar(f"{event.suite}/{name}", value, 0)
            case RunFinished():
                writer.close()
                return
        writer.flush()  # raises here what went wrong in the writer's own thread

    return log
