"""A member, its rules, and what the product says about members; no I/O."""
