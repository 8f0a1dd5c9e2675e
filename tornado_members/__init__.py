"""A members service: one place to ask who a member is."""

__version__ = "0.1.0"
