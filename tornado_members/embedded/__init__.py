"""A private MongoDB and Memcached, for a first run and for tests: nothing to install or to set up.

They live in the data folder and belong to whoever uses it. The first command to come starts them,
others join it, and the last to leave stops them; a lock that every user shares says who is there,
and the kernel lets go of it even for a command that was killed. So whoever finds nobody there and
servers running knows that they were left behind, and ends them.
"""
