"""A private MongoDB and Memcached for first runs and tests, without installation or configuration.

They belong to a data folder. The first command that uses the folder starts them, further commands
join, and the last one stops them. Each user holds a shared lock, which the kernel releases even
for a killed command. A command that finds no other user but running servers therefore knows that
they were left behind, and ends them.
"""
