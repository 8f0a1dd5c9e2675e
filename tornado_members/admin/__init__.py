"""The admin listener: probes and metrics, of one process or of all workers together."""
