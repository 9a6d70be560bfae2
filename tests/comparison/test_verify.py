"""What is held against the rows of two reports is held beside each other."""

from threading import Barrier, Event

import pytest

from robustmix.comparison.verify import at_once


def test_calls_run_beside_each_other_and_their_results_keep_the_order() -> None:
    # Each waits for the other: one after the other they would wait for ever, which breaks it.
    meeting = Barrier(2, timeout=60)

    def call(name: str) -> str:
        meeting.wait()
        return name

    assert at_once([lambda: call("a"), lambda: call("b")]) == ["a", "b"]
    assert at_once([lambda: "alone"]) == ["alone"]
    assert at_once([]) == []


def test_the_first_fault_in_their_order_is_told_whichever_came_first() -> None:
    second_failed = Event()

    def first() -> None:
        assert second_failed.wait(60)
        raise ValueError("first")

    def second() -> None:
        second_failed.set()
        raise ValueError("second")

    with pytest.raises(ValueError, match="first"):
        at_once([first, second])
