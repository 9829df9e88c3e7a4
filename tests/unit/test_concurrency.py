import contextvars
import threading

import pytest

from guardrails.concurrency import together


def test_results_come_in_order_however_long_the_steps_take():
    second_ran = threading.Event()

    def first() -> str:
        # Ends only when the second has run: both run at the same time.
        assert second_ran.wait(10)
        return "first"

    def second() -> str:
        second_ran.set()
        return "second"

    assert together(first, second) == ("first", "second")


def test_one_step_and_none_need_no_thread():
    assert together(threading.current_thread) == (threading.current_thread(),)
    assert together() == ()


def test_every_step_sees_the_callers_context():
    name = contextvars.ContextVar("name", default="nobody")
    name.set("caller")
    assert together(name.get, name.get, name.get) == ("caller",) * 3


def test_the_first_fault_in_order_is_raised_after_all_have_ended():
    ended = threading.Event()

    def fails_late() -> None:
        assert ended.wait(10)
        raise ValueError("second")

    def fails_last() -> None:
        ended.set()
        raise KeyError("third")

    with pytest.raises(ValueError, match="second"):
        together(lambda: None, fails_late, fails_last)
