"""The stubs say what the extension module has."""

import subprocess
import sys

import pytest


def test_stubs():
    pytest.importorskip("mypy")
    line = [sys.executable, "-m", "mypy.stubtest", "delta_dct._delta_dct"]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
