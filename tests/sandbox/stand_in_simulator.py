"""A process that keeps the simulator's side of the contract, and does nothing else.

It records what its admin API is asked in `requests.jsonl`, and keeps one process of its own, as the simulator keeps
its PostgreSQL servers.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "admin-token"


class Handler(BaseHTTPRequestHandler):
    directory: Path

    def do_GET(self) -> None:
        self._answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"message": "wrong admin token"})
        elif self.path == "/ports":
            self._record(body)
            self._answer(200, {"port": 5544})
        elif body["target"] != "autoscaling":
            self._answer(404, {"message": f"there is no target {body['target']}"})
        else:
            self._record(body)
            self._answer(200, {"token": "a-credential", "expires_at": "2030-01-01T00:00:00Z"})

    def do_DELETE(self) -> None:
        self._record({})
        self._answer(200, {})

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _record(self, body: dict[str, Any]) -> None:
        with (self.directory / "requests.jsonl").open("a") as file:
            file.write(json.dumps([self.command, self.path, body]) + "\n")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--fail", action="store_true")
    arguments = parser.parse_args()
    if arguments.fail:
        sys.exit("the stand-in was told to fail")
    Handler.directory = arguments.state
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    target = {
        "kind": "autoscaling",
        "project": "marketing",
        "postgres_version": 18,
        "admin_dsn": "postgresql://cloud_admin:it's@127.0.0.1:5432/postgres",
        "gateway_host": "localhost",
        "gateway_port": 5433,
    }
    ready = {
        "workspace_url": "https://localhost:8443",
        "ca_file": str(arguments.state / "ca.pem"),
        "client_id": "client",
        "client_secret": "secret value",
        "admin_url": f"http://127.0.0.1:{server.server_port}",
        "admin_token": TOKEN,
        "targets": {"autoscaling": target},
        "child": child.pid,
    }
    new = arguments.state / "ready.json.new"
    new.write_text(json.dumps(ready))
    new.rename(arguments.state / "ready.json")
    server.serve_forever()
    child.kill()


if __name__ == "__main__":
    main()
