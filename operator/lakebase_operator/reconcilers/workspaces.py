"""Databricks workspaces as the operator logs in to them: one per address and identity, shared by whoever needs it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from lakebase_operator.api import lakebase_connection, lakebase_instance
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError
from lakebase_operator.external.databricks import Auth, OAuthM2M, WorkloadIdentity, Workspace
from lakebase_operator.reconcilers.services import Services

SecretValues: TypeAlias = Mapping[str, Mapping[str, bytes]]
"""Secrets of an object's namespace by name."""
DeclaredAuth: TypeAlias = lakebase_connection.Auth | lakebase_instance.InstanceAuth


class Workspaces:
    """Keeps them: each holds its token, its connections and the database credentials in memory.

    Parameters
    ----------
    executor
        Threads for the blocking SDK.
    token_path
        The operator's projected service-account token, for workload identity.
    """

    def __init__(self, executor: ThreadPoolExecutor, token_path: Path | None) -> None:
        self._executor = executor
        self._token_path = token_path
        self._workspaces: dict[tuple[str, Auth], Workspace] = {}

    def get(self, url: str | None, auth: DeclaredAuth, secrets: SecretValues) -> Workspace:
        """The workspace at ``url`` as a declared identity sees it.

        Raises
        ------
        LakebaseError
            A Secret or a key is missing, or a value cannot be used.
        """
        identity = self._auth(auth, secrets)
        if url is None:
            raise InvalidError(Reason.INVALID_SPEC, "spec.workspaceURL is needed for OAuth.")
        key = (url, identity)
        if key not in self._workspaces:
            # A changed secret makes a new workspace; the one with the old secret is of no more use.
            for old in [known for known in self._workspaces if _replaces(key, known)]:
                del self._workspaces[old]
            self._workspaces[key] = Workspace(url, identity, executor=self._executor)
        return self._workspaces[key]

    def _auth(self, auth: DeclaredAuth, secrets: SecretValues) -> Auth:
        if auth.oauth_m2m is not None:
            reference = auth.oauth_m2m.client_secret_ref
            return OAuthM2M(auth.oauth_m2m.client_id, secret_text(secrets, reference.name, reference.key))
        if auth.workload_identity is not None:
            if self._token_path is None:
                raise InvalidError(
                    Reason.INVALID_SPEC,
                    "spec.auth.workloadIdentity: the operator has no projected ServiceAccount token; "
                    "install it with the chart's workloadIdentity values (LAKEBASE_OPERATOR_TOKEN_PATH).",
                )
            return WorkloadIdentity(auth.workload_identity.client_id, self._token_path)
        raise InvalidError(Reason.INVALID_SPEC, "spec.auth: give one of oauthM2M, workloadIdentity.")


def _replaces(new: tuple[str, Auth], old: tuple[str, Auth]) -> bool:
    return new[0] == old[0] and new[1].client_id == old[1].client_id and new != old


def secret_text(secrets: SecretValues, name: str, key: str) -> str:
    """One value of a Secret.

    Raises
    ------
    LakebaseError
        It is not there, or not text.
    """
    if name not in secrets:
        raise NotReadyError(
            Reason.SECRET_NOT_FOUND, f'There is no Secret "{name}" in this namespace. Create it.'
        )
    if key not in secrets[name]:
        raise NotReadyError(Reason.SECRET_NOT_FOUND, f'The Secret "{name}" has no key "{key}". Add it.')
    try:
        return secrets[name][key].decode()
    except UnicodeDecodeError:
        raise InvalidError(
            Reason.INVALID_SPEC, f'The key "{key}" of the Secret "{name}" is not text in UTF-8.'
        ) from None


async def read_secrets(
    services: Services,
    namespace: str,
    auth: DeclaredAuth,
    remembered: dict[str, Mapping[str, bytes]],
    *,
    remember: bool,
) -> SecretValues:
    """The Secret that an OAuth login needs.

    Parameters
    ----------
    remembered
        The last that were read; kept up to date here.
    remember
        Use these where the Secret is gone: a namespace that is deleted may lose it before what needs it.
    """
    if auth.oauth_m2m is None:
        return {}
    name = auth.oauth_m2m.client_secret_ref.name
    secret = await services.kube.read_secret(namespace, name)
    if secret is not None:
        for value in secret.values.values():
            services.hide(value.decode(errors="replace"))
        remembered[name] = secret.values
        return {name: secret.values}
    return {name: remembered[name]} if remember and name in remembered else {}
