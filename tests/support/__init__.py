"""Clients, servers and checks that several test modules share."""
