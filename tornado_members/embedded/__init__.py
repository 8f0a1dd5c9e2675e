"""A private MongoDB and Memcached for first runs and tests, without installation or configuration.

They belong to a data folder. The first command that uses the folder starts them, further commands
join, and the last one stops them. Each user holds a shared lock, which the kernel releases even
for a killed command. Servers that run without a user were left behind by a killed command, and the
next command stops them.
"""
