"""Shows pools and queues to Prometheus, OpenTelemetry and Sentry. Each has a module of its own, and an extra.

Nothing is imported, and nothing is measured, unless an application, or ``fang worker --metrics-port``, asks for it.
"""
