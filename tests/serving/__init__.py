"""Tests of the processes and of their sockets."""
