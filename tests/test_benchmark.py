"""The benchmark runs, and judges what it measures; how fast is for a quiet machine to say."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
benchmark = pytest.importorskip("benchmark")


def test_the_command_prints_the_page_and_writes_it_with_its_figure(tmp_path):
    command = [sys.executable, Path(benchmark.__file__), "--quick", "--write", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "BENCHMARK.md").read_text()
    assert done.stdout.split() == page.split()
    for row in (
        "`sgd`, ",
        "`gradient_descent`, ",
        "`multiplicative_update`, ",
        "uniform, ",
        "faces, ",
    ):
        assert f"| {row}" in page
    assert (tmp_path / "benchmark.png").stat().st_size > 0


def test_the_page_beside_it_has_every_row_and_its_figure():
    page = Path(benchmark.__file__).with_name("BENCHMARK.md").read_text()
    assert page.count("\n| `") == 9 and page.count("\n| faces, ") == 3 and "\n| uniform, " in page
    assert "](benchmark.png)" in page and "not here" not in page
    assert Path(benchmark.__file__).with_name("benchmark.png").exists()


@pytest.mark.parametrize(
    "wanted, missed",
    [({"at_least": 2}, False), ({"at_least": 2.1}, True), ({"at_most": 2}, False)]
    + [({"at_most": 1.9}, True), ({}, False)],
)
def test_a_row_that_misses_what_was_wanted_says_so(wanted, missed):
    told = benchmark.judged(np.array([1, 2, 9]), **wanted)
    assert told.startswith("2.00 x") and ("missed" in told) == missed


def test_functions_are_timed_in_turn():
    calls = []

    def function(name, duration):
        return lambda: calls.append(name) or time.sleep(duration)

    times = benchmark.alternate(3, function("quick", 0.03), function("slow", 0.06))
    assert calls == ["quick", "slow"] * 4  # once to see how many calls make up 20 ms
    assert times.shape == (2, 3) and times[0].min() >= 0.03 and times[1].min() >= 0.06
