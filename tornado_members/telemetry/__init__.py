"""Metrics, logs and traces of the service. Every package above it may use it."""
