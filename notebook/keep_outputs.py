"""Runs the notebook and keeps its outputs in it, without what libraries log; `make notebook-outputs`."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parent / "image_classification_pipeline.ipynb"


def is_shown(output: nbformat.NotebookNode) -> bool:
    return output.get("name") != "stderr" and "INFO:tensorflow" not in output.get("text", "")


notebook = nbformat.read(PATH, as_version=4)
NotebookClient(notebook, timeout=None, resources={"metadata": {"path": PATH.parent}}).execute()
for cell in notebook.cells:
    if cell.cell_type == "code":
        cell.outputs = [output for output in cell.outputs if is_shown(output)]
    cell.metadata.pop("execution", None)  # when each cell ran
nbformat.write(notebook, PATH)
