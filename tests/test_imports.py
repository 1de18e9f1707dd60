"""Layers and one rule, `api`, `scale` → `services` → `ml`, `storage` → `types`, `errors`; TensorFlow and Ray apart."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "shoe_classifier"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("tensorflow", "keras")
USES_TENSORFLOW = ("ml/architecture.py",)  # from which the modules that train take it
FOUNDATION = {"errors", "types", "files"}
ALLOWED = {  # for each layer, or module beside the layers, what its modules may import of this package
    "errors": set(),
    "types": {"errors"},
    "files": {"errors"},
    "host": set(),
    "settings": FOUNDATION | {"host"},
    "ml": FOUNDATION | {"ml"},
    "storage": FOUNDATION | {"storage", "settings"},
    "services": FOUNDATION | {"services", "ml", "storage", "settings"},
    "api": FOUNDATION | {"api", "services", "ml", "storage", "settings", "__version__"},
    "scale": FOUNDATION | {"scale", "services", "ml", "storage", "settings"},
    "terminal": FOUNDATION | {"settings"},
    "cli_scale": FOUNDATION | {"terminal", "scale", "services", "ml", "storage", "settings"},
    "main": FOUNDATION | {"api", "scale", "services", "ml", "storage", "settings", "__version__"},
    "client_errors": set(),
    "cli_service": {"client_errors", "terminal", "types"},
    "cli": FOUNDATION
    | {"cli_scale", "cli_service", "terminal", "main", "api", "services", "ml", "storage", "settings"},
    "__main__": {"cli"},
    "__init__": set(),
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


def top_imports(path: Path) -> set[str]:
    """The names that a module imports as soon as it is imported itself."""
    body = ast.parse(path.read_text()).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    layer = relative.with_suffix("").parts[0]
    own = {name.split(".")[1] for name in imports(path) if name.startswith("shoe_classifier.")}
    assert own <= ALLOWED[layer]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_tensorflow_is_imported_only_where_it_trains(path: Path) -> None:
    heavy = [name for name in imports(path) if name.split(".")[0] in HEAVY]
    assert not heavy or str(path.relative_to(SOURCE)) in USES_TENSORFLOW


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_ray_is_imported_only_on_a_cluster(path: Path) -> None:
    """And by no module at its top: importing `scale` must work where Ray is not installed."""
    top = {name.split(".")[0] for name in top_imports(path)}
    assert not top & {"ray", "pyarrow"}
    assert "ray" not in {name.split(".")[0] for name in imports(path)} or path.parent.name == "scale"


def test_the_service_starts_without_heavy_libraries() -> None:
    heavy = ("tensorflow", "keras", "sklearn", "scipy", "rich", "supabase", "pyarrow", "ray")
    modules = "sys, shoe_classifier.main, shoe_classifier.api.server"
    program = f"import {modules}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
