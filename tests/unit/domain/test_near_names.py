"""Names that somebody may have meant."""

import pytest

from lakebase_operator.domain.near_names import did_you_mean, near_names

ROLES = ("analysts", "Analysts", "app_reader", "app_readers", "loader", "postgres")


@pytest.mark.requirement("R-140")
def test_slips_of_the_keyboard_and_of_case_are_near_and_other_names_are_not() -> None:
    assert near_names("anlaysts", ROLES) == ("Analysts", "analysts")
    assert near_names("APP_READER", ROLES) == ("app_reader", "app_readers")
    assert near_names("elementum", ROLES) == ()
    assert near_names("loader", ROLES) == ()


def test_the_question_names_them() -> None:
    assert did_you_mean(()) == ""
    assert did_you_mean(("a", "b")) == ' Did you mean "a" or "b"?'
