"""Documents agree with the code: settings, targets, modules, links and the version."""

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import shoe_classifier
from shoe_classifier.settings import Settings

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "shoe_classifier"
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "clients").glob("*.md")),
    ROOT / "models" / "MODEL_CARD.md",
    ROOT / "performance_testing/results/README.md",
    *sorted(ROOT.glob("deploy/*/README.md")),
]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", "")


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as hosts of Markdown make them."""
    return {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in re.findall(r"(?m)^#+ (.+)$", text)}


@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_a_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "DEPLOYMENT.md").read_text().split("## Settings")[1]
    assert re.search(rf"(?m)^#{name}=", (ROOT / ".env.example").read_text())


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    documented = re.findall(r"(?m)^\| (`[A-Z_`, ]+`) \|", (ROOT / "DEPLOYMENT.md").read_text())
    names = {name for cell in documented for name in re.findall("[A-Z_]+", cell)}
    assert names == {name.upper() for name in Settings.model_fields}


def test_every_target_has_a_comment() -> None:
    phony = set(re.search(r"(?m)^\.PHONY: (.+)$", MAKEFILE)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"(?m)^([a-z-]+):.*## .+$", MAKEFILE))


def test_make_help_lists_the_targets() -> None:
    shown = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make run " in shown
    assert "make check " in shown


def test_the_version_is_written_once() -> None:
    newest = re.search(r"(?m)^## \[(.+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text())
    assert newest and newest[1] == shoe_classifier.__version__
    assignments = [path for path in SOURCE.rglob("*.py") if re.search(r"\d\.\d\.\d\"$", path.read_text(), re.MULTILINE)]
    assert assignments == [SOURCE / "__init__.py"]
    assert not re.search(r"(?m)^version =", (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", ["requirements.txt", "frontend/requirements.txt"])
def test_every_dependency_is_listed_with_its_licence(lock: str) -> None:
    rows = re.findall(r"(?m)^\| (\S+) +\| \S", (ROOT / "docs" / "licences.md").read_text())
    pinned = [Requirement(line) for line in re.findall(r"(?m)^[A-Za-z].*", (ROOT / lock).read_text())]
    here = {"python_version": "3.11", "python_full_version": "3.11.9"}  # where the list was printed
    wanted = {canonicalize_name(one.name) for one in pinned if not one.marker or one.marker.evaluate(here)}
    assert wanted - {canonicalize_name(name) for name in rows} == set(), "`make licences` renews the list"


def test_the_architecture_names_every_module() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text()
    for module in SOURCE.rglob("*.py"):
        name = module.stem
        if name != "__init__":
            assert re.search(rf"(?m)^ +{name} ", tree), f"expected {module.relative_to(SOURCE)} in the tree"


def test_the_architecture_names_nothing_else() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text().split("    frontend/")[0].split("src/shoe_classifier/\n")[1]
    listed = {name.rstrip("/") for name in re.findall(r"(?m)^ {6,}(\w+/?) +\S", tree)}
    assert listed - {path.stem for path in SOURCE.rglob("*")} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_a_path_of_one_machine(document: Path) -> None:
    assert not re.search(r"/(root|home|work)/\w", document.read_text())
