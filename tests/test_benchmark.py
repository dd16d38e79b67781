"""The benchmark runs; how fast is for a quiet machine to say."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_the_benchmark_runs(tmp_path):
    pytest.importorskip("pyperf")
    script = Path(__file__).with_name("benchmark.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", "--plot", tmp_path / "benchmark.png"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for kernel in ("sgd", "gradient_descent", "multiplicative_update", "hals"):
        assert f"| `{kernel}` |" in done.stdout
    assert (tmp_path / "benchmark.png").stat().st_size > 0
