"""What a shell or a program needs to use a sandbox."""

import os
import re
from pathlib import Path

from lakebase_sandbox.simulator_process import Simulator


def environment(simulator: Simulator, *, kubeconfig: Path, bin_directory: Path) -> dict[str, str]:
    """The variables of `lakebase-sandbox env`, by name."""
    search_path = [str(bin_directory), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    variables = {
        "KUBECONFIG": str(kubeconfig),
        "PATH": os.pathsep.join(dict.fromkeys(search_path)),
        "LAKEBASE_WORKSPACE_URL": simulator.workspace_url,
        "LAKEBASE_CA_FILE": str(simulator.ca_file),
        "LAKEBASE_CLIENT_ID": simulator.client_id,
        "LAKEBASE_CLIENT_SECRET": simulator.client_secret,
    }
    for name, target in simulator.targets.items():
        suffix = re.sub(r"\W", "_", name)
        variables[f"ADMIN_DSN_{suffix}"] = target.admin_dsn
        variables[f"GATEWAY_HOST_{suffix}"] = target.gateway_host
        variables[f"GATEWAY_PORT_{suffix}"] = str(target.gateway_port)
    return variables
