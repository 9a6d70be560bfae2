"""Images of files: each decoded once for all conditions, in bounded memory, to the same numbers."""

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from robustmix.data import decode
from robustmix.data.decoded import DecodedImages
from robustmix.data.file_pixels import FilePixels
from robustmix.data.images import ImageSet
from robustmix.data.preparation import TestTransform
from robustmix.data.reading import keeping_decoded
from robustmix.errors import UsageError
from robustmix.evaluation.block_order import Reading
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.progress import Silence
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.report.report import Report
from tests.evaluation.attacks import attack
from tests.evaluation.test_stopping import Counting
from tests.evaluation.tiny import tiny_images, tiny_model

N, BATCH, IMAGE = 103, 8, 3 * 32 * 32
SUITES: dict[str, Any] = {
    "corruption": Corruption(corruptions="gaussian_noise,brightness,pixelate", severity=(1, 3, 5)),
    "occlusion": "occlusion",
    "shuffle": "shuffle",
    "fgsm": attack("fgsm", masking="off"),
    "pgd": attack("pgd", steps=3, sweep=(), masking="off"),
}


@pytest.fixture
def files(tmp_path: Path) -> ImageSet:
    data = tiny_images(N)
    paths = tuple(tmp_path / "images" / f"{i:03}.png" for i in range(N))
    paths[0].parent.mkdir()
    for path, image in zip(paths, data.pixels.take(_all()), strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return replace(data, pixels=FilePixels(paths, (3, 32, 32), TestTransform.parse("none")))


def _all() -> Tensor:
    import torch

    return torch.arange(N)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded."""
    count: Counter[str] = Counter()

    def counted(path: Path, white: object) -> object:
        count[path.name] += 1
        return decode.decode_rgb(path, white)  # type: ignore[arg-type]

    monkeypatch.setattr("robustmix.data.file_pixels.decode_rgb", counted)
    return count


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Bound the memory to so many images."""

    def bound(images: int) -> None:
        monkeypatch.setattr(
            "robustmix.evaluation.evaluation.keeping_decoded",
            lambda pixels, _: keeping_decoded(pixels, images * IMAGE),
        )

    return bound


def numbers(report: Report) -> dict[str, Any]:
    """Everything of a report but the record of the data's bytes, with every row."""
    assert report.content.run.status == "success"
    content = report.content.model_dump(mode="json")
    for suite in content["suites"].values():
        suite.pop("timing")
    assert report.samples is not None
    rows = {
        (suite, name): column.tobytes()
        for suite, table in report.samples.tables.items()
        for name, column in table.columns.items()
    }
    return {"suites": content["suites"], "rows": rows}


@pytest.mark.parametrize("suite", SUITES)
def test_each_image_is_decoded_once_a_suite_in_less_memory_than_the_set_needs(
    suite: str, files: ImageSet, decodes: Counter[str], room: Callable[[int], None]
) -> None:
    wanted = ["clean", SUITES[suite]]
    whole = numbers(evaluate(tiny_model(), tiny_images(N), wanted, batch_size=BATCH))
    room(N // 2)
    found = numbers(evaluate(tiny_model(), files, wanted, batch_size=BATCH))
    assert found == whole
    # Once for clean, once for the suite; those that repeated predictions are checked on, again.
    assert set(decodes.values()) <= {2, 3}
    # The longer search of pgd takes images that all rows of the search before it have chosen.
    assert sum(count == 3 for count in decodes.values()) <= (40 if suite == "pgd" else 16)
    assert len(decodes) == N

    decodes.clear()  # the oracle: nothing is kept, and every condition decodes every image
    room(0)
    assert numbers(evaluate(tiny_model(), files, wanted, batch_size=BATCH)) == whole
    assert min(decodes.values()) > (1 if suite == "fgsm" else 2)  # fgsm is one pass over all radii

    decodes.clear()
    room(N)
    assert numbers(evaluate(tiny_model(), files, wanted, batch_size=BATCH)) == whole
    assert set(decodes.values()) == {1}


@pytest.mark.parametrize(("batch", "images"), [(3, 5), (3, 60), (16, 60), (200, 30)])
def test_no_bound_and_no_batch_changes_a_number(
    batch: int, images: int, files: ImageSet, room: Callable[[int], None]
) -> None:
    wanted = ["clean", SUITES["corruption"], SUITES["pgd"]]
    room(images)
    found = numbers(evaluate(tiny_model(), files, wanted, batch_size=batch))
    assert found == numbers(evaluate(tiny_model(), tiny_images(N), wanted))


@pytest.mark.parametrize(
    ("suite", "at"),
    [
        ("shuffle", 90),
        ("corruption", 25),
        pytest.param("shuffle", 25, marks=pytest.mark.slow),
        pytest.param("corruption", 90, marks=pytest.mark.slow),
    ],
)
def test_stopped_inside_a_span_it_goes_on_with_any_other_bound(
    at: int, suite: str, files: ImageSet, room: Callable[[int], None], tmp_path: Path
) -> None:
    wanted, out = ["clean", SUITES[suite]], tmp_path / "report"
    whole = evaluate(tiny_model(), tiny_images(N), wanted, batch_size=BATCH)
    net = Counting()
    net.at, net.signal = at, signal.SIGTERM
    room(N // 2)
    cut = evaluate(tiny_model(net), files, wanted, batch_size=BATCH, out=out)
    assert net.passes == at
    assert cut.content.run.status == "interrupted"
    room(N // 3)
    rest, told = Counting(), Told()
    done = evaluate(
        tiny_model(rest), files, wanted, batch_size=5, out=out, resume=True, progress=told
    )
    assert numbers(done) == numbers(whole)
    assert told.done == told.total
    # What was kept is not computed again.
    full = Counting()
    evaluate(tiny_model(full), files, wanted, batch_size=5)
    assert rest.passes < full.passes


class Told(Silence):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def start(self, suite: str, total: int) -> None:
        self.total += total

    def advance(self, suite: str, part: str, samples: int) -> None:
        self.done += samples


@pytest.mark.parametrize(
    "images", [pytest.param(0, marks=pytest.mark.slow), 40, pytest.param(N, marks=pytest.mark.slow)]
)
def test_progress_ends_at_its_total(
    images: int, files: ImageSet, room: Callable[[int], None]
) -> None:
    room(images)
    told = Told()
    evaluate(tiny_model(), files, ["clean", *SUITES.values()], batch_size=BATCH, progress=told)
    assert told.done == told.total > 0


def test_units_of_a_finished_run_count_once(
    files: ImageSet, room: Callable[[int], None], tmp_path: Path
) -> None:
    wanted, out = ["clean", SUITES["corruption"]], tmp_path / "report"
    net = Counting()
    room(40)
    passes = Counting()
    evaluate(tiny_model(passes), files, wanted, batch_size=BATCH)
    net.at, net.signal = passes.passes - 1, signal.SIGINT
    evaluate(tiny_model(net), files, wanted, batch_size=BATCH, out=out)
    done = evaluate(tiny_model(Counting()), files, wanted, batch_size=BATCH, out=out, resume=True)
    # Clean, and all conditions but the last, whose last batch was cut.
    assert done.content.run.resumed_units == 9


def test_a_damaged_file_is_named_and_fails_alone(
    files: ImageSet, room: Callable[[int], None]
) -> None:
    assert isinstance(files.pixels, FilePixels)
    bad = files.pixels.paths[77]
    bad.write_bytes(bad.read_bytes()[:300])
    room(40)
    report = evaluate(tiny_model(), files, ["clean"], batch_size=BATCH)
    assert report.content.suites["clean"].status == "failed"
    assert bad.name in (report.content.suites["clean"].reason or "")


def test_spans_leave_room_for_what_reaches_over_their_ends(files: ImageSet) -> None:
    pixels = keeping_decoded(files.pixels, 60 * IMAGE)
    reading = Reading.of(pixels, 8)
    assert reading.count == 2
    assert list(reading.spans(70)) == [(0, 28), (28, 56), (56, 70)]
    assert list(Reading.of(pixels, 25).spans(70)) == [(0, 70)]  # no batch would stay
    assert list(Reading.of(files.pixels, 8).spans(70)) == [(0, 70)]
    assert list(reading.spans(0)) == []


def test_the_last_used_stay_and_no_more_than_asked_for() -> None:
    loaded: list[int] = []

    def load(place: int, out: Tensor) -> None:
        loaded.append(place)
        out.fill_(place)

    kept = DecodedImages(load, (3, 2, 2), 3)
    for places, expected in (
        ([0, 1], [0, 1]),
        ([1, 2], [2]),
        ([1, 3], [3]),  # 0 has to go
        ([1, 2, 3], []),
        ([0], [0]),
        ([5, 6, 7, 8, 9], [5, 6, 7, 8, 9]),  # a batch may be larger than what stays
        ([7, 8, 9], []),
        ([6], [6]),
    ):
        loaded.clear()
        assert kept.take(places)[:, 0, 0, 0].tolist() == places
        assert sorted(loaded) == expected
        assert len(kept) <= 3
    kept.close()
    assert len(kept) == 0


def test_an_image_that_failed_is_tried_again() -> None:
    tries: list[int] = []

    def load(place: int, out: Tensor) -> None:
        tries.append(place)
        if len(tries) == 1:
            raise MemoryError
        out.fill_(1)

    kept = DecodedImages(load, (3, 1, 1), 9)
    with pytest.raises(MemoryError):
        kept.take([4])
    assert kept.take([4]).sum() == 3


@pytest.mark.parametrize(("asked", "said"), [(-1, "from 0 to"), (1 << 25, "from 0 to")])
def test_a_bound_that_cannot_be_meant_is_refused(asked: int, said: str, files: ImageSet) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate(tiny_model(), files, ["clean"], image_memory=asked)


def test_a_bound_on_images_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="image_memory has no effect") as caught:
        evaluate(tiny_model(), tiny_images(), ["clean"], image_memory=10)
    assert caught.value.code == "E-UNUSED-OPTION"


def test_the_bound_that_is_asked_for_is_the_one_that_holds(
    files: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noted(pixels: Any, most_bytes: int) -> Any:
        asked.append(most_bytes)
        return keeping_decoded(pixels, most_bytes)

    monkeypatch.setattr("robustmix.evaluation.evaluation.keeping_decoded", noted)
    evaluate(tiny_model(), files, ["clean"], image_memory=3)
    evaluate(tiny_model(), files, ["clean"])
    assert asked == [3 << 20, 1024 << 20]
