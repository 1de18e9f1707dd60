"""Four layers and one rule, `api` → `services` → `ml`, `storage` → `types`, `errors`; TensorFlow only in training."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "shoe_classifier"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("tensorflow", "keras")
USES_TENSORFLOW = ("ml/architecture.py", "ml/augment.py", "ml/batches.py", "ml/training.py")
FOUNDATION = {"errors", "types", "files"}
ALLOWED = {  # for each layer, or module beside the layers, what its modules may import of this package
    "errors": set(),
    "types": {"errors"},
    "files": {"errors"},
    "settings": FOUNDATION,
    "ml": FOUNDATION | {"ml"},
    "storage": FOUNDATION | {"storage", "settings"},
    "services": FOUNDATION | {"services", "ml", "storage", "settings"},
    "api": FOUNDATION | {"api", "services", "ml", "storage", "settings", "__version__"},
    "main": FOUNDATION | {"api", "services", "ml", "storage", "settings", "__version__"},
    "retrain_client": set(),
    "cli": FOUNDATION | {"main", "api", "services", "ml", "storage", "settings", "retrain_client"},
    "__main__": {"cli"},
    "__init__": set(),
}
STILL = {  # what breaks the rule until it is taken apart
    "storage/model_files.py": {"ml"},
    "api/server.py": {"main"},
}


def imports(path: Path) -> set[str]:
    """The names that a module imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"expected absolute imports; received a relative one in {path}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    layer = relative.with_suffix("").parts[0]
    own = {name.split(".")[1] for name in imports(path) if name.startswith("shoe_classifier.")}
    assert own <= ALLOWED[layer] | STILL.get(str(relative), set())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_tensorflow_is_imported_only_where_it_trains(path: Path) -> None:
    heavy = [name for name in imports(path) if name.split(".")[0] in HEAVY]
    assert not heavy or str(path.relative_to(SOURCE)) in USES_TENSORFLOW


def test_the_service_starts_without_heavy_libraries() -> None:
    heavy = ("tensorflow", "keras", "sklearn", "scipy", "rich", "supabase")
    program = f"import sys, shoe_classifier.api.server; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
