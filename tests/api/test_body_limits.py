import pytest

from shoe_classifier.api.body_limits import Budget
from shoe_classifier.errors import Overloaded


def test_shares_are_given_back_also_after_an_error() -> None:
    budget = Budget("disk", 10)
    with pytest.raises(Overloaded, match="disk for bodies, 4 bytes; received one of 5"), budget.share() as share:
        share.take(6)
        share.take(5)
    budget.check(10)
