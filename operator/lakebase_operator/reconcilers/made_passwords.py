"""Passwords that Databricks makes, where a server takes none from the operator.

A Lakebase project hands every statement about a role to its control plane, which wants to be given passwords as they are, and
refuses SCRAM verifiers. The operator sends no password in plain text. So there Databricks makes it, and the operator is told which:
nothing here waits for that. It is asked for, the name of the operation is kept in memory, and later passes look how far it is. If
that is lost it is asked for again, and there is another new password, which nobody has been given yet.
"""

from collections.abc import Container, MutableMapping
from dataclasses import dataclass

from lakebase_operator.engine.observer import Observer
from lakebase_operator.external.databricks import RoleApi
from lakebase_operator.reconcilers.timing import observed

LOOK_AGAIN_SECONDS = 3.0
"""Until the next look at an operation. On a branch one change is carried out at a time."""


@dataclass(frozen=True, slots=True)
class MadePasswords:
    """Has Databricks make passwords, and tells them.

    All methods raise :class:`~lakebase_operator.domain.errors.LakebaseError` and nothing else.
    """

    api: RoleApi | None
    """None: the connection cannot ask Databricks."""
    operations: MutableMapping[str, str]
    """Operations under way, by name of the role; kept from pass to pass."""
    observer: Observer

    @property
    def problem(self) -> str | None:
        """Why there are none for this connection, as a sentence; None: there are."""
        if self.api is None:
            return "A LakebaseConnection with a password has no Databricks API to ask for one instead."
        return self.api.password_problem()

    def is_under_way(self, role: str) -> bool:
        """Whether one was asked for that has not been seen done."""
        return role in self.operations

    def forget_all_but(self, roles: Container[str]) -> None:
        """Forget what was asked for roles that are gone."""
        for name in [one for one in self.operations if one not in roles]:
            del self.operations[name]

    async def is_made(self, role: str) -> bool:
        """Ask for a new password if that has not been done, else look how far it is. True: it is there, and can be revealed."""
        api = self._api()
        if role not in self.operations:
            asking = api.make_password(role)
            self.operations[role] = await observed(self.observer, "databricks", "role", asking)
            return False
        progress = await observed(self.observer, "databricks", "role", api.follow(self.operations[role]))
        if progress.done:
            del self.operations[role]
        if progress.error is not None:
            raise progress.error
        return progress.done

    async def reveal(self, role: str) -> str:
        """The password that Databricks has for a role."""
        return await observed(self.observer, "databricks", "role", self._api().reveal_password(role))

    def _api(self) -> RoleApi:
        assert self.api is not None, "see problem"
        return self.api
