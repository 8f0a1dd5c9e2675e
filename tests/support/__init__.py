"""Fixtures and tools that several tests share."""
