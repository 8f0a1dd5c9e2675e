"""Benchmarks that compare the service with alternatives in the same run: scripts/bench NAME."""
