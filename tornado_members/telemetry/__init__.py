"""Metrics, logs and traces of the service. Every other room may use it."""
