"""A members service: one place to ask who a member is."""
