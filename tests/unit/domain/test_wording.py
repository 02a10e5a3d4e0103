"""How numbers are told."""

import pytest

from lakebase_operator.domain.wording import counted


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 privileges are"), (1, "1 privilege is"), (2, "2 privileges are")]
)
def test_a_number_stands_with_the_words_that_belong_to_it(number: int, told: str) -> None:
    assert counted(number, "privilege is", "privileges are") == told
