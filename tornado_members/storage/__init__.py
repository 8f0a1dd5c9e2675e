"""MongoDB: the only package that uses it."""
