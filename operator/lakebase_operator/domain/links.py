"""Where Databricks shows what this operator leaves to it: queries and cost."""

from urllib.parse import quote, urlsplit

from lakebase_operator.api.lakebase_connection import LakebaseConnectionSpec

_ACCOUNT_CONSOLES = {
    ".cloud.databricks.com": "https://accounts.cloud.databricks.com",
    ".azuredatabricks.net": "https://accounts.azuredatabricks.net",
    ".gcp.databricks.com": "https://accounts.gcp.databricks.com",
}
"""By the end of the workspace's host. Others exist, and have no address that is documented."""


def links(spec: LakebaseConnectionSpec) -> dict[str, str] | None:
    """Pages of the workspace and of its account about the target; None for a server that is not Databricks'.

    The addresses are the best known ones: Databricks documents the pages, not their paths. That of an instance is the one
    that Databricks' own command line prints (https://github.com/databricks/cli, bundle resources); a project's page has an
    id that the operator does not know.

    Parameters
    ----------
    spec
        Of the connection, with its target resolved.
    """
    if spec.workspace_url is None or spec.target.server is not None:
        return None
    workspace = spec.workspace_url.rstrip("/")
    found = {"queryHistory": f"{workspace}/sql/history"}
    if spec.target.provisioned is not None:
        found["instance"] = (
            f"{workspace}/compute/database-instances/{quote(spec.target.provisioned.instance)}"
        )
    host = urlsplit(workspace).hostname or ""
    console = next((url for end, url in _ACCOUNT_CONSOLES.items() if host.endswith(end)), None)
    if console is not None:
        found["usage"] = f"{console}/usage"
    return found
