"""Tests of the service's own HTTP server."""
