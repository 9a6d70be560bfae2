"""Which rows the numbers of attacks are made of."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from robustmix.metrics.attacked import Attacked, area_number, convergence_numbers, robust_acc
from robustmix.metrics.definition import Definition
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table


def rows(conditions: dict[str, dict[str, Any]], n: int) -> Rows:
    first = next(iter(conditions.values()))
    columns = {
        name: np.stack([[np.asarray(found[name])] for found in conditions.values()])
        for name in first
    }
    samples = Samples(
        sample_ids=tuple(map(str, range(n))), labels=np.zeros(n, dtype=np.int64),
        class_names=("a", "b"), superclass=None, tables={"mine": Table(tuple(conditions), columns)},
    )  # fmt: skip
    return Rows.of(samples, "mine", order=np.arange(n), num_classes=2, input_size=(3, 4, 4), seed=0)


def test_an_ensemble_counts_the_last_member_that_tested_a_sample() -> None:
    found = Attacked.of(rows({
        "clean": {"tested": [1, 1, 1], "l2": [0.0, 0.0, 0.0], "zero_gradient": [0.5, 1.0, 0.0],
                  "uint8_correct": [0, 1, 1]},
        "first": {"tested": [0, 1, 1], "l2": [0.0, 2.0, 3.0], "zero_gradient": [0.0, 0.0, 0.0],
                  "uint8_correct": [0, 0, 1]},
        "second": {"tested": [0, 0, 1], "l2": [0.0, 0.0, 4.0], "zero_gradient": [0.0, 0.0, 0.0],
                   "uint8_correct": [0, 0, 0]},
    }, 3))  # fmt: skip
    assert found is not None
    assert found.after("l2").tolist() == [0.0, 2.0, 4.0]
    assert found.rounded().tolist() == [0, 0, 0]
    assert found.zero_gradient().tolist() == [0.5, 1.0, 0.0]  # the clean image's
    assert found.column("l2") is None


def test_the_headline_radius_is_the_one_that_was_rounded() -> None:
    of_rows = rows({
        "0/255": {"correct": [1, 1]}, "4/255": {"correct": [1, 0]}, "8/255": {"correct": [0, 0]},
        "4/255 8-bit": {"correct": [0, 1]},
    }, 2)  # fmt: skip
    found = Attacked.of(of_rows)
    assert found is not None
    assert found.conditions == ("4/255",)
    assert found.rounded().tolist() == [0, 1]
    number = robust_acc(of_rows)
    assert isinstance(number, Definition)
    assert (number.estimate(), number.column) == (0.5, ("4/255", "correct"))


def test_rows_of_a_published_tool_have_none_of_these_numbers() -> None:
    tool = rows({"attack": {"correct": [1]}, "clamp": {"correct": [1]}}, 1)
    assert Attacked.of(tool) is None
    assert robust_acc(tool) is None


@pytest.mark.parametrize(
    ("norm", "levels", "area"),
    [
        ("linf", (0, 8, 16, 64), (8 * (1 + 0.5) / 2 + 8 * (0.5 + 0) / 2) / 16),
        ("linf", (0, 8, 64), None),
        ("linf", (0,), None),
        ("l2", (0, 8, 255), (8 * (1 + 0.5) / 2 + 247 * (0.5 + 0) / 2) / 255),
        ("l2", (0, 8, 16), None),
    ],
)
def test_the_area_goes_to_its_end_or_is_not_there(
    norm: str, levels: tuple[int, ...], area: float | None
) -> None:
    accuracy = dict(zip(levels, ([1, 1], [1, 0], [0, 0], [0, 0]), strict=False))
    radii = [Fraction(level, 255) for level in levels]
    found = area_number(norm, radii, lambda eps: np.array(accuracy[int(eps * 255)], dtype=float))
    values = [define().estimate() for define in found.values()]
    assert values == ([] if area is None else [pytest.approx(area)])


def test_convergence_by_hand() -> None:
    """Six samples; the subset leaves out the last two, of which one falls late."""
    of_rows = rows({
        "8/255": {"correct": [0, 0, 1, 1, 0, 1], "first_step": [2, 4, -1, -1, 0, -1],
                  "tested": [1, 1, 1, 1, 1, 1]},
        "8/255 2k": {"correct": [0, 0, 0, 1, 0, 0], "first_step": [0, 0, 7, -1, 0, 0],
                     "tested": [0, 0, 1, 1, 0, 0]},
    }, 6)  # fmt: skip
    subset = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    numbers = convergence_numbers(of_rows, "8/255", steps=5, subset=subset)
    found = {name: define().metric() for (_, name), define in numbers.items()}
    assert {name: (metric.value, metric.n) for name, metric in found.items()} == {
        "error_half_steps": (2 / 6, 6),  # after 2 steps: the first and the fifth
        "error_subset": (2 / 4, 4),
        "error_double_steps": (3 / 4, 4),
        "unconverged": (1 / 4, 4),
    }
    assert found["error_double_steps"].note == "after 10 steps, of a seeded subset of 4"
