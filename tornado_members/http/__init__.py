"""HTTP without members: negotiation, conditional requests, CORS, compression, limits."""
