"""The probes and the metrics, over HTTP."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

Check = Callable[[], bool]


class Probes:
    """Serves ``/healthz``, ``/readyz`` and ``/metrics``, usable as ``async with Probes(...)``.

    That ``/healthz`` is answered at all shows that the event loop turns.

    Parameters
    ----------
    live, ready
        Named checks; all must hold.
    metrics
        Gives the metrics in Prometheus' text format.
    probe_port, metrics_port
        The same number makes one server; 0 is any free port.
    """

    def __init__(
        self,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        metrics: Callable[[], bytes],
        address: str,
        probe_port: int,
        metrics_port: int,
    ) -> None:
        self._live = live
        self._ready = ready
        self._metrics = metrics
        self._address = address
        self._ports = {probe_port, metrics_port}
        self._probe_port = probe_port
        self._metrics_port = metrics_port
        self._runners: list[web.AppRunner] = []
        self.port = 0
        """Where the probes are served."""
        self.metrics_port = 0
        """Where the metrics are served."""

    async def __aenter__(self) -> Self:
        probes = [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]
        metrics = [web.get("/metrics", self._exposition)]
        if self._probe_port == self._metrics_port:
            self.port = self.metrics_port = await self._serve(self._probe_port, probes + metrics)
        else:
            self.port = await self._serve(self._probe_port, probes)
            self.metrics_port = await self._serve(self._metrics_port, metrics)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, port: int, routes: list[web.RouteDef]) -> int:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self._address, port).start()
        return int(runner.addresses[0][1])

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._ready)

    async def _exposition(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


def _answer(checks: Mapping[str, Check]) -> web.Response:
    results = {name: check() for name, check in checks.items()}
    lines = [f"[{'+' if holds else '-'}] {name}" for name, holds in results.items()]
    return web.Response(text="\n".join(lines) + "\n", status=200 if all(results.values()) else 503)
