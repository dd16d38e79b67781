"""The benchmark runs, and judges what it measures; how fast is for a quiet machine to say."""

import subprocess
import sys
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
    assert page.count("\n| `") == 10
    assert page.count("\n| faces, ") == page.count("\n| uniform, ") == 1
    assert (tmp_path / "benchmark.png").stat().st_size > 0


@pytest.mark.parametrize(
    "wanted, missed",
    [({"at_least": 2}, False), ({"at_least": 2.1}, True), ({"at_most": 2}, False)]
    + [({"at_most": 1.9}, True), ({}, False)],
)
def test_a_row_that_misses_what_was_wanted_says_so(wanted, missed):
    told = benchmark.judged(np.array([1, 2, 9]), **wanted)
    assert told.startswith("2.00 x") and ("missed" in told) == missed
