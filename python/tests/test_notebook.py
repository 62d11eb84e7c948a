"""The tour runs from the first cell to the last, and is stored with its pictures.

DELTA_DCT_WRITE_NOTEBOOK=1 stores it as it ran.
"""

import os
import re

import pytest
from conftest import REPOSITORY

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("matplotlib")

TOUR = REPOSITORY / "notebooks/tour.ipynb"


def pictures(notebook) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def test_the_tour_runs():
    notebook = nbformat.read(TOUR, 4)
    stored = pictures(notebook)
    where = {"metadata": {"path": TOUR.parent}}
    nbclient.NotebookClient(notebook, timeout=900, record_timing=False, resources=where).execute()
    if os.environ.get("DELTA_DCT_WRITE_NOTEBOOK"):
        nbformat.write(notebook, TOUR)
    else:
        assert len(pictures(notebook)) == len(stored) > 0


def test_the_tour_is_stored_as_it_ran_small_and_without_paths():
    text = TOUR.read_text()
    cells = [cell for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for cell in cells for output in cell.outputs)
    assert len(text) < 1_500_000
    assert not re.search(r"/home/|/root/|/tmp/|/work/|[A-Z]:\\\\Users", text)
