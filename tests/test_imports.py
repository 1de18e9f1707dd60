"""The rooms of the house: who may import whom, and that TensorFlow stays out of the service."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "shoe_classifier"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("tensorflow", "keras")
ROOMS = {  # what the modules of a room may import of this package
    "images": {"images", "errors"},
    "classifier": {"classifier", "images", "errors"},
    "store": {"store", "images", "settings", "locking", "errors"},
    "settings": {"errors"},
    "errors": set(),
    "uploading": {"classifier", "images", "store", "settings", "errors"},
    "correcting": {"store", "uploading", "errors"},
    "predicting": {"classifier", "images", "store", "settings", "errors"},
    "publishing": {"classifier", "store", "errors"},
    "retraining": {"classifier", "images", "store", "settings", "errors", "publishing", "child", "locking"},
    "child": {"classifier"},
    "locking": set(),
    "connections": set(),
    "schooling": {"classifier", "images", "errors", "reporting"},
    "opening": {"classifier", "settings", "store"},
    "reporting": {"images"},
    "forms": {"errors"},
    "traffic": {"store"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms(path: Path) -> None:
    names = imports(path)
    if path.name not in ("network.py", "training.py"):
        assert not [name for name in names if name.split(".")[0] in HEAVY]
    own = {name.split(".")[1] for name in names if name.startswith("shoe_classifier.")}
    if path.name != "serving.py":
        assert "main" not in own
    if room(path) in ROOMS:
        assert own <= ROOMS[room(path)]


def test_the_service_starts_without_heavy_libraries() -> None:
    heavy = ("tensorflow", "keras", "sklearn", "scipy", "rich", "supabase")
    program = f"import sys, shoe_classifier.serving; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
