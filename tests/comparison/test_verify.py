"""What is held against the rows of two reports is held beside each other."""

from threading import Barrier, Event

import pytest

from robustmix.comparison.verify import at_once, begun


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


def test_what_is_begun_runs_beside_the_block_and_before_what_is_called_later() -> None:
    reached, left = Event(), Event()

    def early() -> str:
        reached.set()
        assert left.wait(60)  # the block would wait for ever for what is called only at its end
        return "early"

    with begun([early]) as results:
        assert reached.wait(60)
        left.set()
        assert results(lambda: "later", lambda: "last") == ["early", "later", "last"]


def test_faults_of_what_is_begun_are_told_in_order_and_only_if_asked_for() -> None:
    def fault(name: str) -> None:
        raise ValueError(name)

    with begun([lambda: fault("early")]) as results:
        pass
    with (
        pytest.raises(ValueError, match="early"),
        begun([lambda: fault("early")]) as results,
    ):
        results(lambda: fault("later"))
    with pytest.raises(KeyError), begun([lambda: fault("early")]):
        raise KeyError
