"""Files are read some batches ahead, and nothing but the time it takes can tell."""

import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustmix.data import decode, file_pixels, threads
from robustmix.data.augment import Augment
from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet
from robustmix.data.loader import Batch, train_batches
from robustmix.data.threads import AHEAD, ahead, fill, in_threads
from robustmix.errors import IntakeError

N, BATCH = 23, 3
AUGMENTS = {
    "boxes": Augment(kind="random-resized-crop", size=24),
    "boxes of resized": Augment(kind="random-resized-crop", size=24, resize=40),
    "unmirrored": Augment(kind="random-resized-crop", size=24, flip=False),
    "crops": Augment(kind="crop-flip", padding=4),
    "as they are": Augment(kind="none"),
    "more": Augment(kind="random-resized-crop", size=24, rand_ops=2, erase_prob=0.5),
}


@pytest.fixture
def photographs(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    for i in range(N):
        path = tmp_path / "train" / f"class{i % 3}" / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (40 + i, 70 - i, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return load_folder(tmp_path, "train", 32)


def batches(
    data: ImageSet, augment: Augment, draws: torch.Generator, start: int = 0
) -> Generator[Batch]:
    order = torch.Generator().manual_seed(1)
    return train_batches(
        data, batch_size=BATCH, augment=augment, order=order, draws=draws, device="cpu", start=start
    )


@pytest.mark.parametrize("name", AUGMENTS)
def test_batches_and_the_recorded_state_do_not_depend_on_what_was_begun(
    name: str, photographs: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held to a loader that begins a batch when it is asked for it, as an oracle."""
    found: list[tuple[list[Batch], list[Tensor]]] = []
    for count in (0, 1, AHEAD, 100):
        monkeypatch.setattr("robustmix.data.loader.AHEAD", count)
        draws = torch.Generator().manual_seed(2)
        made, states = [], []
        for batch in batches(photographs, AUGMENTS[name], draws):
            made.append(batch)
            states.append(draws.get_state())
        found.append((made, states))
    (one, first), *others = found
    assert len(one) == 8
    # "none" draws nothing; all others advance with every batch.
    assert len({state.numpy().tobytes() for state in first}) == (1 if name == "as they are" else 8)
    for made, states in others:
        assert all(torch.equal(a, b) for a, b in zip(states, first, strict=True))
        for batch, again in zip(one, made, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


@pytest.mark.parametrize("done", [1, 2, 5, 7])
def test_an_epoch_left_anywhere_is_continued_to_the_same_bits(
    done: int, photographs: ImageSet
) -> None:
    augment = AUGMENTS["more"]
    whole = list(batches(photographs, augment, torch.Generator().manual_seed(2)))
    draws = torch.Generator().manual_seed(2)
    with closing(batches(photographs, augment, draws)) as left:
        parts = [next(left) for _ in range(done)]
    later = torch.Generator().set_state(draws.get_state())
    parts += batches(photographs, augment, later, start=done)
    for batch, again in zip(whole, parts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_so_many_batches_are_begun_before_they_are_asked_for() -> None:
    begun, given_up = [], []

    class Work:
        def __init__(self, number: int) -> None:
            begun.append(number)
            self.number = number

        def cancel(self) -> None:
            given_up.append(self.number)

    some = ahead(map(Work, range(10)), 2)
    assert begun == []
    assert next(some).number == 0
    assert begun == [0, 1, 2]
    assert next(some).number == 1
    assert begun == [0, 1, 2, 3]
    some.close()
    assert given_up == [2, 3]
    assert [work.number for work in ahead(map(Work, range(5)), 2)] == list(range(5))
    assert [work.number for work in ahead(map(Work, range(2)), 9)] == [0, 1]


def test_what_was_begun_is_given_up_when_the_epoch_is_left(
    photographs: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads are held in the second batch: nothing after it is ever decoded."""
    gate, decoded = threading.Event(), list[Path]()
    first = set[Path]()

    def held(path: Path, white: object) -> object:
        if path not in first:
            gate.wait(20)
        decoded.append(path)
        return decode.decode_rgb(path, white)  # type: ignore[arg-type]

    monkeypatch.setattr(file_pixels, "decode_rgb", held)
    permutation = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    paths = photographs.pixels.paths  # type: ignore[attr-defined]
    first |= {paths[i] for i in permutation[:BATCH].tolist()}
    some = batches(photographs, AUGMENTS["boxes"], torch.Generator())
    assert next(some).indices.tolist() == permutation[:BATCH].tolist()
    some.close()
    gate.set()
    in_threads(abs, range(3))  # after this the pool has nothing left of what was begun
    assert len(decoded) <= BATCH + threads.thread_count()


def test_a_damaged_file_is_named_when_its_batch_is_due(photographs: ImageSet) -> None:
    permutation = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    paths = photographs.pixels.paths  # type: ignore[attr-defined]
    bad, later = (paths[int(permutation[i])] for i in (2 * BATCH + 1, 2 * BATCH + 2))
    for path in (bad, later):
        path.write_bytes(path.read_bytes()[:200])
    some = batches(photographs, AUGMENTS["boxes"], torch.Generator())
    next(some), next(some)
    with pytest.raises(IntakeError, match=bad.name):
        next(some)


def test_one_pool_serves_everything_and_a_fork_has_its_own(photographs: ImageSet) -> None:
    pool = threads.thread_pool()
    list(batches(photographs, AUGMENTS["boxes"], torch.Generator()))
    photographs.pixels.take(torch.arange(4))
    assert threads.thread_pool() is pool
    named = [one for one in threading.enumerate() if one.name.startswith("robustmix-decode")]
    assert len(named) <= threads.thread_count()


@pytest.mark.parametrize("where", ["first", "second"])
def test_the_first_that_fails_is_what_is_raised(where: str) -> None:
    def work(place: int, out: Tensor) -> None:
        if place >= ("first", "second").index(where):
            raise ValueError(f"image {place}")
        out.fill_(7)

    pending = fill(torch.empty((4, 3, 2, 2), dtype=torch.uint8), work)
    with pytest.raises(ValueError, match="image 0" if where == "first" else "image 1"):
        pending.result()


ENDS = """
import os, sys, time
from pathlib import Path
import torch
from robustmix.data.folder import load_folder
from robustmix.data import file_pixels
from robustmix.data.augment import Augment
from robustmix.data.loader import train_batches
data = load_folder(Path(sys.argv[1]), "train", 32)
decode, count = file_pixels.decode_rgb, [0]
def slow(path, white):
    count[0] += 1
    time.sleep(0.05 if count[0] > 3 else 0)
    return decode(path, white)
file_pixels.decode_rgb = slow
batches = train_batches(
    data, batch_size=3, augment=Augment(kind="random-resized-crop", size=8),
    order=torch.Generator(), draws=torch.Generator(), device="cpu",
)
next(batches)
{ending}
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        pytest.param("sys.exit(7)", 7, marks=pytest.mark.slow),
        pytest.param("raise KeyboardInterrupt", -2, marks=pytest.mark.slow),
        (
            "child = os.fork()\nif not child:\n"
            "    os._exit(5 if len(data.pixels.take(torch.arange(2))) == 2 else 6)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
            5,
        ),
    ],
)
def test_a_process_ends_though_batches_were_begun(
    ending: str, code: int, photographs: ImageSet
) -> None:
    root = photographs.pixels.paths[0].parents[2]  # type: ignore[attr-defined]
    script = ENDS.replace("{ending}", ending)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(root)],
        capture_output=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == code, done.stderr
