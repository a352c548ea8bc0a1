"""Work in several processes: the same whatever the number, and the same default in every verb."""

import inspect
import os

import pytest

import shiftkit as sk
from shiftkit.work import Work, n_processes


def process_of(_: int) -> int:
    return os.getpid()


def test_results_come_in_order_whatever_the_processes() -> None:
    """One process and two give the same results in the same order, and report each as it is done."""
    for jobs in (1, 2):
        told: list[str] = []
        work = Work(jobs=jobs, progress=lambda done, total, text, told=told: told.append(f"{text} {done}/{total}"))
        assert list(work.map(abs, [-3, 2, -1], "Stage")) == [3, 2, 1]
        assert told == ["Stage 1/3", "Stage 2/3", "Stage 3/3"]


def test_a_single_item_starts_no_process() -> None:
    """One item is worked on here: starting others would take longer."""
    assert list(Work(jobs=2).map(process_of, [0], "Stage")) == [os.getpid()]


def test_no_number_of_processes_means_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the cores, as in a container or a test worker, is heeded."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr("shiftkit.work.allowed_cores", lambda: 4)
    assert n_processes(0) == 1 and n_processes(3) == 3
    monkeypatch.setattr("shiftkit.work.allowed_cores", lambda: 1)
    assert n_processes(3) == 1


def test_every_public_verb_uses_every_core_by_default() -> None:
    """``jobs`` is 0 wherever a verb of the package has it, as on the command line."""
    defaults = {
        name: parameter.default
        for name in sk.__all__
        if inspect.isfunction(verb := getattr(sk, name))
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.name == "jobs"
    }
    assert {"check", "prepare", "phantom"} <= set(defaults)
    assert set(defaults.values()) == {0}
