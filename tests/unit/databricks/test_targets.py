"""A target reaches the resource that it names, and no other."""

import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.external.databricks import AutoscalingTarget, ProvisionedTarget


def test_names_of_the_usual_form_are_used_as_they_are() -> None:
    target = AutoscalingTarget("marketing", "production", "primary")
    assert target.name == target.path == "projects/marketing/branches/production/endpoints/primary"
    assert target.branch_path == "projects/marketing/branches/production"
    assert ProvisionedTarget("marketing-db").path == "marketing-db"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a#b", "a%23b"),
        ("a?b", "a%3Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a b", "a%20b"),
        ("ä", "%C3%A4"),
        ("a;b", "a%3Bb"),
    ],
)
def test_characters_that_would_change_a_url_are_escaped(name: str, path: str) -> None:
    assert ProvisionedTarget(name).path == path
    assert AutoscalingTarget(name, "b", "e").path == f"projects/{path}/branches/b/endpoints/e"
    assert AutoscalingTarget("p", name, "e").path == f"projects/p/branches/{path}/endpoints/e"
    assert AutoscalingTarget("p", "b", name).path == f"projects/p/branches/b/endpoints/{path}"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\nb", "a\x00"])
def test_what_cannot_be_one_name_is_refused(name: str) -> None:
    for make in (
        lambda: ProvisionedTarget(name),
        lambda: AutoscalingTarget(name, "b", "e"),
        lambda: AutoscalingTarget("p", name, "e"),
        lambda: AutoscalingTarget("p", "b", name),
    ):
        with pytest.raises(InvalidError) as refused:
            make()
        assert refused.value.reason is Reason.INVALID_SPEC
        assert "spec.target" in refused.value.message
