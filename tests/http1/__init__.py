"""The HTTP server of the service's own."""
