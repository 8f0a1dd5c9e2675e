"""The service as processes: one that supervises, and workers that serve.

The supervisor reads the settings, binds the sockets, starts the private servers and forks workers.
It serves nothing but probes, has one thread, and an event loop that runs only while it waits, so
that forking is safe; all clients and tasks are made in the workers. Orders and news go over a
socket pair each (channel.py).
"""
