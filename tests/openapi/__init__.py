"""Tests of the openapi room."""
