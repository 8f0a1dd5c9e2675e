"""The processes of the service: a supervisor, and workers that serve requests.

The supervisor reads the settings, binds the sockets, starts the private servers and forks workers.
It serves nothing but probes, has one thread, and an event loop that runs only while it waits, so
that forking is safe; all clients and tasks are made in the workers. The supervisor and each worker
exchange messages over a pair of sockets (channel.py).
"""
