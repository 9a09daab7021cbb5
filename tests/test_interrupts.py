from __future__ import annotations

import signal
import threading

import pytest

from assent.interrupts import StopRequest


def test_a_signal_only_sets_the_flag_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert (stop.signal_name, stop.exit_code) == ("SIGTERM", 143)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_second_interrupt_is_for_the_impatient() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    try:
        with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.requested
            assert stop.exit_code == 130
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_contexts_nest() -> None:
    with StopRequest() as outer:
        with StopRequest() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert (inner.requested, outer.requested) == (True, False)
        signal.raise_signal(signal.SIGTERM)
        assert outer.requested


def test_outside_the_main_thread_only_a_request_stops() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop.requested)
            stop.request()
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
