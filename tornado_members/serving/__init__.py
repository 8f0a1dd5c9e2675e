"""The service as processes: one that supervises, and workers that serve.

The supervisor reads the settings, binds the socket, starts the private servers, and forks workers.
It serves nothing itself, has one thread and no event loop, so that forking is safe at any time; all
clients and tasks are made in the workers. Orders and news go over a socket pair each (channel.py).
"""
