"""From differences to statements: who acts, in which order, in how few."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.plan import (
    MAX_ACL_ITEMS,
    MAX_GRANTEES,
    MAX_OBJECTS,
    Acting,
    Actor,
    ColumnGrant,
    Difference,
    Plan,
    chunks,
    keep_columns,
    plan,
    script,
    within_acl_limit,
)
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, Verb

OPERATOR, OWNER, OTHER = 1, 2, 3


def actor(oid: int, **rights: bool) -> Actor:
    none = {"inherits": False, "can_set": False, "admin": False, "is_operator": False}
    return Actor(oid=oid, name=f"r{oid}", **{**none, **rights})


def difference(name: str = "t", **other: Any) -> Difference:
    values = {
        "verb": Verb.GRANT, "object": ObjectName(ObjectClass.TABLE, "s", name), "oid": 100, "part": 0, "owner": OWNER,
        "privilege": Privilege.SELECT, "grantor": None, "grantees": (11,), "drifted": (), "grantable": False,
        "implied": False, "public": False, "selectors": (0,),
    }  # fmt: skip
    return Difference(**{**values, **other})


def column(name: str, table: str = "t") -> ObjectName:
    return ObjectName(ObjectClass.COLUMN, "s", table, name)


def planned(
    *differences: Difference, actors: dict[int, Actor] | None = None, superuser: bool = False
) -> Plan:
    known = {OWNER: actor(OWNER, can_set=True)} if actors is None else actors
    return plan(differences, known, lambda oid: f"g{oid}" if oid > 10 else None, superuser=superuser)


@pytest.mark.requirement("R-174")
@pytest.mark.parametrize(
    ("rights", "grantable", "acting_as", "temporary", "possible"),
    [
        ({"is_operator": True}, False, None, (), True),
        ({"can_set": True}, False, "r2", (), True),
        ({"can_set": True, "inherits": True}, True, "r2", (), True),
        ({"inherits": True}, False, None, (), True),
        ({"admin": True}, False, "r2", ("r2",), True),
        ({"admin": True}, True, None, (), True),
        ({}, True, None, (), True),
        ({}, False, None, (), False),
    ],
)
def test_the_grantor_is_chosen_on_purpose(
    rights: dict[str, bool],
    grantable: bool,
    acting_as: str | None,
    temporary: tuple[str, ...],
    possible: bool,
) -> None:
    result = planned(difference(grantable=grantable), actors={OWNER: actor(OWNER, **rights)})
    assert bool(result) is possible
    assert bool(result.impossible) is not possible
    assert [statement.acting_as for statement in result.statements] == ([acting_as] if possible else [])
    assert result.temporary_set == temporary


@pytest.mark.requirement("R-173", "R-174")
def test_a_revoke_is_made_as_the_one_who_granted_and_a_grant_option_does_not_help() -> None:
    mine = difference(verb=Verb.REVOKE, grantor=OTHER, grantable=True)
    assert planned(mine).impossible == (mine,)
    actors = {OTHER: actor(OTHER, can_set=True), OWNER: actor(OWNER)}
    assert [one.acting_as for one in planned(mine, actors=actors).statements] == ["r3"]


def test_a_superuser_counts_as_the_owner_and_sets_the_role_of_another_grantor() -> None:
    anybody = {
        OWNER: actor(OWNER, can_set=True, inherits=True),
        OTHER: actor(OTHER, can_set=True, inherits=True),
    }
    result = planned(
        difference(),
        difference("u", verb=Verb.REVOKE, grantor=OWNER),
        difference("v", verb=Verb.REVOKE, grantor=OTHER),
        actors=anybody,
        superuser=True,
    )
    assert sorted((str(one.objects[0]), one.acting_as) for one in result.statements) == [
        ("s.t", None), ("s.u", None), ("s.v", "r3"),
    ]  # fmt: skip


def test_an_owner_that_is_gone_makes_it_impossible() -> None:
    assert planned(difference(owner=99)).impossible
    assert not planned(difference(owner=99, grantable=True)).impossible


def test_a_grantee_that_is_gone_is_left_out_and_alone_is_impossible() -> None:
    result = planned(difference(grantees=(5, 11)), difference("u", grantees=(5,)))
    assert [one.grantees for one in result.statements] == [("g11",)]
    assert [one.object.name for one in result.impossible] == ["u"]


@pytest.mark.requirement("R-203")
def test_objects_with_the_same_privileges_for_the_same_grantees_are_one_statement() -> None:
    wanted = [
        difference(name, privilege=privilege, grantees=(11, 12))
        for name in "abc"
        for privilege in (Privilege.SELECT, Privilege.INSERT)
    ]
    (one,) = planned(*wanted).statements
    assert ([item.name for item in one.objects], one.privileges, one.grantees) == (
        ["a", "b", "c"], (Privilege.INSERT, Privilege.SELECT), ("g11", "g12"),
    )  # fmt: skip


def test_privileges_whose_grant_options_may_come_from_two_roles_are_granted_apart() -> None:
    wanted = [
        difference(privilege=privilege, grantable=True) for privilege in (Privilege.SELECT, Privilege.INSERT)
    ]
    assert len(planned(*wanted, actors={}).statements) == 2


def test_revokes_come_first_and_the_role_is_set_as_rarely_as_possible() -> None:
    actors = {OWNER: actor(OWNER, can_set=True), OTHER: actor(OTHER, can_set=True)}
    mixed = [
        difference(f"{name}{owner}", owner=owner, grantor=owner if verb is Verb.REVOKE else None, verb=verb, grantees=(grantee,))
        for name in "ab" for owner in (OWNER, OTHER) for verb in Verb for grantee in (11, 12)
    ]  # fmt: skip
    order = [(one.verb, one.acting_as) for one in planned(*mixed, actors=actors).statements]
    changes = [one for number, one in enumerate(order) if number == 0 or order[number - 1] != one]
    assert changes == [(verb, role) for verb in (Verb.REVOKE, Verb.GRANT) for role in ("r2", "r3")]


def test_long_lists_are_cut_into_statements_of_a_bounded_size() -> None:
    grantees = tuple(range(11, 11 + MAX_GRANTEES + 1))
    wanted = [difference(f"t{number:04}", grantees=grantees) for number in range(MAX_OBJECTS + 1)]
    result = planned(*wanted)
    assert len(result.statements) == 4
    assert all(
        len(one.objects) <= MAX_OBJECTS and len(one.grantees) <= MAX_GRANTEES for one in result.statements
    )


# -- grant options -------------------------------------------------------------------------------------------------


def test_a_grant_with_grant_option_gives_the_privilege_too_and_is_made_once() -> None:
    (one,) = planned(difference(), difference(grant_option=True)).statements
    assert str(one) == 'GRANT SELECT ON TABLE "s"."t" TO "g11" WITH GRANT OPTION'


def test_a_revoke_of_the_privilege_takes_the_grant_option_too_and_is_made_once() -> None:
    gone: dict[str, Any] = {"verb": Verb.REVOKE, "grantor": OWNER}
    (one,) = planned(difference(**gone), difference(grant_option=True, **gone)).statements
    assert str(one) == 'REVOKE SELECT ON TABLE "s"."t" FROM "g11"'


def test_a_grant_option_alone_is_taken_and_the_privilege_left() -> None:
    (one,) = planned(difference(verb=Verb.REVOKE, grantor=OWNER, grant_option=True)).statements
    assert str(one) == 'REVOKE GRANT OPTION FOR SELECT ON TABLE "s"."t" FROM "g11"'


def test_only_the_same_grantees_of_the_same_grantor_are_covered() -> None:
    actors = {OWNER: actor(OWNER, can_set=True), OTHER: actor(OTHER, can_set=True)}
    steps = planned(
        difference(grantees=(11, 12)),
        difference(grantees=(12,), grant_option=True),
        difference("u", verb=Verb.REVOKE, grantor=OWNER),
        difference("u", verb=Verb.REVOKE, grantor=OTHER, grant_option=True),
        actors=actors,
    )
    assert {(str(one), one.acting_as) for one in steps.statements} == {
        ('REVOKE SELECT ON TABLE "s"."u" FROM "g11"', "r2"),
        ('REVOKE GRANT OPTION FOR SELECT ON TABLE "s"."u" FROM "g11"', "r3"),
        ('GRANT SELECT ON TABLE "s"."t" TO "g11"', "r2"),
        ('GRANT SELECT ON TABLE "s"."t" TO "g12" WITH GRANT OPTION', "r2"),
    }


# -- columns and default privileges --------------------------------------------------------------------------------


def test_columns_of_one_table_are_one_statement_and_those_of_two_are_two() -> None:
    wanted = [
        difference(object=column(name, table), part=part, privilege=privilege)
        for table in "tu"
        for part, name in enumerate("ab", 1)
        for privilege in (Privilege.SELECT, Privilege.UPDATE)
    ]
    assert [str(one) for one in planned(*wanted).statements] == [
        f'GRANT SELECT ("a", "b"), UPDATE ("a", "b") ON TABLE "s"."{table}" TO "g11"' for table in "tu"
    ]


def test_tables_and_columns_do_not_share_a_statement_and_revokes_on_tables_come_first() -> None:
    gone: dict[str, Any] = {"verb": Verb.REVOKE, "grantor": OWNER}
    mixed = [difference(object=column("a"), part=1, **more) for more in (gone, {})]
    mixed += [difference("u", **more) for more in (gone, {})]
    assert [str(one) for one in planned(*mixed).statements] == [
        'REVOKE SELECT ON TABLE "s"."u" FROM "g11"',
        'REVOKE SELECT ("a") ON TABLE "s"."t" FROM "g11"',
        'GRANT SELECT ON TABLE "s"."u" TO "g11"',
        'GRANT SELECT ("a") ON TABLE "s"."t" TO "g11"',
    ]


def test_default_privileges_are_changed_one_creator_schema_and_class_at_a_time() -> None:
    places = [
        ObjectName(object_class, schema, creator)
        for object_class in (ObjectClass.DEFAULT_TABLES, ObjectClass.DEFAULT_SEQUENCES)
        for schema in (None, "s")
        for creator in ("ann", "bob")
    ]
    wanted = [
        difference(object=place, grantees=grantees, privilege=privilege)
        for place in places
        for grantees in ((11, 12),)
        for privilege in (Privilege.SELECT, Privilege.UPDATE)
    ]
    made = planned(*wanted).statements
    assert [len(one.objects) for one in made] == [1] * len(places)
    assert {str(one) for one in made} == {
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{creator}"{where} GRANT SELECT, UPDATE ON {what} TO "g11", "g12"'
        for creator in ("ann", "bob")
        for where in ("", ' IN SCHEMA "s"')
        for what in ("TABLES", "SEQUENCES")
    }


def test_a_grant_option_does_not_help_with_default_privileges() -> None:
    wanted = difference(object=ObjectName(ObjectClass.DEFAULT_TABLES, None, "ann"), grantable=True)
    assert planned(wanted, actors={OWNER: actor(OWNER)}).impossible == (wanted,)
    assert planned(wanted, actors={OWNER: actor(OWNER, admin=True)}).temporary_set == ("r2",)


HELD = ColumnGrant(difference().object, Privilege.SELECT, OWNER, 11, ("a",), grant_option=False)
GONE = difference(verb=Verb.REVOKE, grantor=OWNER, grantees=(11, 12))
WITHOUT_OPTION = difference(verb=Verb.REVOKE, grantor=OWNER, grant_option=True)


def restored(revoked: list[Difference], *held: ColumnGrant) -> list[str]:
    """What is granted again after a plan's own statements."""
    steps = planned(*revoked, difference("u"))
    kept = keep_columns(steps, revoked, held, lambda oid: f"r{oid}" if oid < 10 else f"g{oid}")
    assert kept.statements[: len(steps.statements)] == steps.statements
    again = kept.statements[len(steps.statements) :]
    assert all(one.acting_as == "r2" for one in again)
    return [str(one) for one in again]


def test_column_grants_that_a_revoke_takes_along_are_given_back_by_the_same_grantor() -> None:
    assert restored([GONE], HELD, replace(HELD, grantor=OTHER, grantee=12), replace(HELD, grantee=13)) == [
        'GRANT SELECT ("a") ON TABLE "s"."t" TO "g11"'
    ]
    assert restored([GONE], replace(HELD, privilege=Privilege.UPDATE)) == []
    assert restored([GONE]) == []


def test_columns_are_given_back_with_the_grant_option_that_they_had() -> None:
    with_option = replace(HELD, grant_option=True)
    again = 'GRANT SELECT ("a") ON TABLE "s"."t" TO "g11" WITH GRANT OPTION'
    assert restored([GONE], with_option) == [again]
    # A revoke of the grant option takes only that along.
    assert restored([WITHOUT_OPTION], with_option) == [again]
    assert restored([WITHOUT_OPTION], HELD) == []


def test_what_is_to_go_from_a_column_is_not_given_back() -> None:
    column_gone = difference(verb=Verb.REVOKE, grantor=OWNER, object=column("a"), part=1)
    option_gone = column_gone._replace(grant_option=True)
    both = replace(HELD, columns=("a", "b"), grant_option=True)
    assert restored([GONE, column_gone], both) == [
        'GRANT SELECT ("b") ON TABLE "s"."t" TO "g11" WITH GRANT OPTION'
    ]
    assert restored([GONE, option_gone], both) == [
        'GRANT SELECT ("a") ON TABLE "s"."t" TO "g11"',
        'GRANT SELECT ("b") ON TABLE "s"."t" TO "g11" WITH GRANT OPTION',
    ]


# -- limits --------------------------------------------------------------------------------------------------------


def test_who_stands_in_a_full_acl_may_get_more_and_who_does_not_is_refused() -> None:
    full = difference(grantees=(11, 12, 13), acl_items=MAX_ACL_ITEMS, newcomers=(12, 13))
    fitting, refused = within_acl_limit([full])
    assert [one.grantees for one in fitting] == [(11,)]
    assert [one.grantees for one in refused] == [(12, 13)]


def test_new_grantees_of_several_privileges_on_one_object_are_counted_once() -> None:
    def differences(items: int) -> list[Difference]:
        return [
            difference(privilege=privilege, grantees=(11, 12), acl_items=items, newcomers=(11, 12))
            for privilege in (Privilege.SELECT, Privilege.INSERT)
        ]

    assert within_acl_limit(differences(MAX_ACL_ITEMS - 2)) == (tuple(differences(MAX_ACL_ITEMS - 2)), ())
    assert within_acl_limit(differences(MAX_ACL_ITEMS - 1)) == ((), tuple(differences(MAX_ACL_ITEMS - 1)))


def test_a_full_acl_keeps_nothing_from_being_revoked_and_says_nothing_of_other_objects() -> None:
    full: dict[str, Any] = {"acl_items": MAX_ACL_ITEMS, "newcomers": (11,)}
    wanted = [
        difference(verb=Verb.REVOKE, grantor=OWNER, **full),
        difference("u", oid=101),
        difference(object=ObjectName(ObjectClass.SCHEMA, None, "s"), privilege=Privilege.USAGE, oid=102, **full),
    ]  # fmt: skip
    assert within_acl_limit(wanted) == (tuple(wanted), ())


# -- for people ----------------------------------------------------------------------------------------------------


def test_a_script_has_every_statement_and_every_change_of_role_in_order() -> None:
    actors = {
        OPERATOR: actor(OPERATOR, is_operator=True),
        OWNER: actor(OWNER, can_set=True),
        OTHER: actor(OTHER, admin=True),
    }
    steps = planned(
        difference("a", owner=OPERATOR),
        difference("b"),
        difference("c", verb=Verb.REVOKE, grantor=OWNER),
        difference("d", owner=OTHER),
        actors=actors,
    )
    assert script(steps, "op") == (
        'GRANT "r3" TO "op" WITH ADMIN FALSE, INHERIT FALSE, SET TRUE',
        'SET LOCAL ROLE "r2"',
        'REVOKE SELECT ON TABLE "s"."c" FROM "g11"',
        "RESET ROLE",
        'GRANT SELECT ON TABLE "s"."a" TO "g11"',
        'SET LOCAL ROLE "r2"',
        'GRANT SELECT ON TABLE "s"."b" TO "g11"',
        'SET LOCAL ROLE "r3"',
        'GRANT SELECT ON TABLE "s"."d" TO "g11"',
        "RESET ROLE",
        'REVOKE "r3" FROM "op"',
    )
    assert script(planned(), "op") == ()


cells = st.builds(
    difference,
    st.sampled_from("abc"),
    verb=st.sampled_from(list(Verb)),
    owner=st.sampled_from([OPERATOR, OWNER, OTHER, 4]),
    privilege=st.sampled_from([Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE]),
    grantees=st.frozensets(st.integers(11, 14), min_size=1).map(lambda some: tuple(sorted(some))),
    grantable=st.booleans(),
)


@given(st.lists(cells, max_size=12))
def test_everything_possible_is_done_exactly_once_and_nothing_else(several: list[Difference]) -> None:
    unique = {(one.verb, one.object, one.privilege): one for one in several}.values()
    wanted = [
        one.for_grantees(one.grantees) if one.verb is Verb.GRANT else difference(
            one.object.name, verb=one.verb, owner=one.owner, grantor=one.owner, privilege=one.privilege, grantees=one.grantees
        )
        for one in unique
    ]  # fmt: skip
    actors = {
        OPERATOR: actor(OPERATOR, is_operator=True), OWNER: actor(OWNER, can_set=True), OTHER: actor(OTHER, admin=True),
        4: actor(4),
    }  # fmt: skip
    result = planned(*wanted, actors=actors)
    done = [
        (one.verb, thing, privilege, grantee)
        for one in result.statements
        for thing in one.objects
        for privilege in one.privileges
        for grantee in one.grantees
    ]
    assert len(done) == len(set(done))
    expected = {
        (one.verb, one.object, one.privilege, f"g{grantee}")
        for one in wanted
        if one not in result.impossible
        for grantee in one.grantees
    }
    assert set(done) == expected
    for one in result.impossible:
        assert actors[one.owner].acting is Acting.NO
        assert not (one.verb is Verb.GRANT and one.grantable)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(Verb)), st.sampled_from("ab"), st.booleans()),
        st.frozensets(st.integers(11, 14), min_size=1),
    )
)
def test_whatever_options_are_asked_for_each_grantee_ends_as_declared_and_is_named_once(
    asked: dict[tuple[Verb, str, bool], frozenset[int]],
) -> None:
    result = planned(
        *(
            difference(name, verb=verb, grantor=OWNER if verb is Verb.REVOKE else None, grant_option=option, grantees=tuple(sorted(who)))
            for (verb, name, option), who in asked.items()
        )
    )  # fmt: skip
    cells = [
        (one.verb, thing.name, one.grant_option, grantee)
        for one in result.statements
        for thing in one.objects
        for grantee in one.grantees
    ]
    assert len({(verb, name, grantee) for verb, name, _, grantee in cells}) == len(cells)
    # A grant with the option does both, and so does a revoke without it.
    dominant = {Verb.GRANT: True, Verb.REVOKE: False}
    done = {(verb, name, option, grantee) for verb, name, option, grantee in cells}
    done |= {(verb, name, not option, who) for verb, name, option, who in cells if option is dominant[verb]}
    wanted = {(verb, name, option, f"g{oid}") for (verb, name, option), who in asked.items() for oid in who}
    over = {
        (verb, name, not dominant[verb], who)
        for verb, name, option, who in wanted
        if option is dominant[verb]
    }
    assert wanted <= done <= wanted | over


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_chunks_are_the_whole_in_order(items: list[int], size: int) -> None:
    parts = list(chunks(items, size))
    assert [item for part in parts for item in part] == items
    assert all(0 < len(part) <= size for part in parts)
