"""The notebook runs from top to bottom, on pictures that it draws and against the real service."""

from pathlib import Path

import httpx
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebook" / "image_classification_pipeline.ipynb"


def test_the_notebook_runs(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_URL", str(client.base_url))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("EPOCHS", "2")
    monkeypatch.setenv("STEPS", "4")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
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
