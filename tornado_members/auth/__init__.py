"""Tokens, their issuers and keys, permissions, the login and its limits."""
