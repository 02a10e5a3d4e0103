"""The forms that host names of Lakebase databases have."""

import re

_INSTANCE = r"instance(?:-ro)?-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ENDPOINT = r"ep-[a-z0-9]+(?:-[a-z0-9]+)*"  # pooled hosts included: they end in `-pooler`
_ZONE = (
    r"cloud\.databricks\.(?:com|us)|azuredatabricks\.net|databricks\.azure\.(?:us|cn)|gcp\.databricks\.com"
)
# Hosts of instances that became projects have no region; newer ones have one.
_HOST = re.compile(rf"(?:{_INSTANCE}|{_ENDPOINT})\.database(?:\.[a-z0-9-]+)?\.(?:{_ZONE})", re.ASCII)


def recognized(host: str) -> bool:
    """Whether ``host`` looks like a Lakebase database on AWS, Azure or Google Cloud.

    A host that does not is worth a warning only: a private network may give it any name.
    """
    return _HOST.fullmatch(host.casefold().removesuffix(".")) is not None
