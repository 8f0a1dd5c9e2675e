"""MongoDB: the only room that knows it."""
