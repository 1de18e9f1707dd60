"""The notebook runs from top to bottom, on pictures that it draws and against the real service."""

from pathlib import Path

import httpx
import nbformat
import pytest
from nbclient import NotebookClient

TESTS = Path(__file__).parent
NOTEBOOK = TESTS.parent / "notebook" / "image_classification_pipeline.ipynb"
SMALL_NETWORK = f"""
import sys
sys.path.append({str(TESTS)!r})
from helpers.model import small_config
from shoe_classifier.ml import training
training.TrainingConfig = small_config()
"""


def test_the_committed_notebook_shows_what_it_does() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.execution_count for cell in cells), "`make notebook-outputs` runs it"
    assert {output.output_type for output in outputs} == {"stream", "display_data", "execute_result"}
    assert "predicted_class" in str(cells[-1].outputs)
    assert NOTEBOOK.stat().st_size < 500_000


@pytest.mark.slow
def test_the_notebook_runs(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_URL", str(client.base_url))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("EPOCHS", "1")
    monkeypatch.setenv("STEPS", "2")
    monkeypatch.setenv("PRETRAINED", str(tmp_path / "none.h5"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALL_NETWORK))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    texts = [
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    everything = "\n".join(texts)
    assert "held-out" not in texts[0]
    assert "95 % interval" in everything
    assert "stripes" in everything
    assert "predicted_class" in texts[-1]
