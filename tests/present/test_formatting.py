"""Numbers as people read them."""

import pytest

from open_exaone.present.formatting import points


@pytest.mark.parametrize(
    ("difference", "text"), [(0.034, "+3.4"), (-0.034, "−3.4"), (-0.0004, "0.0"), (0.0004, "0.0"), (-0.0, "0.0")]
)
def test_a_difference_of_none_has_no_sign(difference, text):
    assert points(difference) == text
