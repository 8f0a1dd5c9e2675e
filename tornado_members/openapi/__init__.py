"""The declarations of operations, which handlers enforce and /openapi.json describes."""
