"""The subcommands of `tornado-members`, one module each. Most have a script below scripts/."""
