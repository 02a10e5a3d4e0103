"""A process with the operator's probe, that writes down who and where it is in `operator.json` beside its kubeconfig."""

import json
import os
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from lakebase_sandbox.tools.kubectl import kubectl_path


class Probe(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def main() -> None:
    whoami = subprocess.run(
        [kubectl_path(), "auth", "whoami", "--output=jsonpath={.status.userInfo.username}"],
        capture_output=True,
        text=True,
        check=True,
    )
    report = {"user": whoami.stdout, "environment": dict(os.environ)}
    Path(os.environ["KUBECONFIG"]).with_name("operator.json").write_text(json.dumps(report))
    address = os.environ["LAKEBASE_OPERATOR_BIND_ADDRESS"]
    HTTPServer((address, int(os.environ["LAKEBASE_OPERATOR_PROBE_PORT"])), Probe).serve_forever()


if __name__ == "__main__":
    main()
