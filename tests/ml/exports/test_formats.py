from typing import get_args

import pytest

from shoe_classifier.errors import ExportUnavailable
from shoe_classifier.ml.exports.formats import FORMATS, ExportFormat, FormatInfo


def test_each_format_is_described_and_the_tests_have_its_packages() -> None:
    assert set(FORMATS) == set(get_args(ExportFormat))
    for info in FORMATS.values():
        info.check_packages()


@pytest.mark.parametrize(
    ("packages", "missing"),
    [
        (("numpy", "no_such_package"), "no_such_package is not installed"),
        (("no_such_package", "nor_this_one"), "no_such_package and nor_this_one are not installed"),
    ],
)
def test_missing_packages_are_named_with_the_way_to_install_them(packages: tuple[str, ...], missing: str) -> None:
    with pytest.raises(ExportUnavailable, match=rf"^Expected the packages {' and '.join(packages)}.*{missing}.*make"):
        FormatInfo("x", "application/x", packages).check_packages()
