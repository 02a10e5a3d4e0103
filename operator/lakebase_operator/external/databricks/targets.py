"""What a connection may point at in a workspace, and how the Databricks APIs name it."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class AutoscalingTarget:
    """An endpoint of a branch of a Lakebase project.

    Raises
    ------
    InvalidError
        A part is no name: empty, a path of its own, or with control characters.
    """

    project: str
    branch: str
    endpoint: str

    def __post_init__(self) -> None:
        for part in (self.project, self.branch, self.endpoint):
            _check_segment(part)

    def __str__(self) -> str:
        return f"endpoint {self.name}"

    @property
    def owner(self) -> str:
        """What the permissions hang on, for messages."""
        return f"project {self.project}"

    @property
    def name(self) -> str:
        """Resource name of the endpoint, as it stands in a request body."""
        return f"projects/{self.project}/branches/{self.branch}/endpoints/{self.endpoint}"

    @property
    def path(self) -> str:
        """Resource name of the endpoint for a URL: the SDK does not escape it."""
        return f"{self.branch_path}/endpoints/{quote(self.endpoint, safe='')}"

    @property
    def branch_path(self) -> str:
        """Resource name of the branch for a URL."""
        return f"{self.project_path}/branches/{quote(self.branch, safe='')}"

    @property
    def project_path(self) -> str:
        """Resource name of the project for a URL."""
        return f"projects/{quote(self.project, safe='')}"


@dataclass(frozen=True, slots=True)
class ProvisionedTarget:
    """A Lakebase database instance.

    Raises
    ------
    InvalidError
        The instance is no name: empty, a path of its own, or with control characters.
    """

    instance: str

    def __post_init__(self) -> None:
        _check_segment(self.instance)

    def __str__(self) -> str:
        return f"instance {self.instance}"

    @property
    def owner(self) -> str:
        """What the permissions hang on, for messages."""
        return str(self)

    @property
    def path(self) -> str:
        """Name of the instance for a URL: the SDK does not escape it."""
        return quote(self.instance, safe="")


Target = AutoscalingTarget | ProvisionedTarget


def _check_segment(value: str) -> None:
    """Refuse what would make a request reach another resource than the one that is named."""
    if value in ("", ".", "..") or "/" in value or _CONTROL_CHARACTERS.search(value):
        raise InvalidError(
            Reason.INVALID_SPEC,
            f"spec.target names {value!r}, which cannot be the name of a project, branch, endpoint or instance.",
        )
