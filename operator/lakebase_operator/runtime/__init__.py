"""The process: wiring, watches, probes, logs, metrics. The only part that knows Kopf."""
