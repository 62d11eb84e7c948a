"""Long work: progress, Ctrl-C, other threads, forks."""

import multiprocessing
import signal
import threading
import time

import delta_dct
import pytest


def test_progress_is_told_on_the_callers_thread(large, tmp_path):
    calls = []

    def progress(what, done, total):
        calls.append((what, done, total, threading.current_thread()))

    delta_dct.compress(*large, tmp_path / "x.ddct", "lowrank", rank=64, progress=progress)
    assert len(calls) > 1
    assert calls[-1] == ("compress", 8 << 22, 8 << 22, threading.current_thread())
    done = [call[1] for call in calls]
    assert done == sorted(done)


def test_what_the_callback_raises_stops_the_work(large, tmp_path):
    def raise_it(*_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        delta_dct.compress(*large, tmp_path / "x.ddct", "lowrank", rank=64, progress=raise_it)
    with pytest.raises(delta_dct.Interrupted):
        delta_dct.compress(*large, tmp_path / "x.ddct", "lowrank", rank=64, progress=lambda *_: False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_ctrl_c_stops_the_work(large, tmp_path):
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            delta_dct.compress(*large, tmp_path / "x.ddct", "lowrank", rank=128)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert list(tmp_path.iterdir()) == []


def test_other_threads_go_on(large, tmp_path):
    work = threading.Thread(target=delta_dct.compress, args=(*large, tmp_path / "x.ddct", "lowrank"))
    work.start()
    rounds = 0
    while work.is_alive():
        time.sleep(0.001)
        rounds += 1
    assert rounds > 10
    assert (tmp_path / "x.ddct").exists()


def _sum_of_first(base, delta, results):
    results.put(float(next(iter(delta_dct.Delta.open(delta, base).values())).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_child_works(base, delta):
    expected = float(next(iter(delta_dct.Delta.open(delta, base).values())).sum())
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_sum_of_first, args=(base, delta, results), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert results.get() == expected
