"""How the service is: its health and its metrics, of one process or of several together."""
