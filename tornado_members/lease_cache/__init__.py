"""Memcached: the only room that knows it."""
