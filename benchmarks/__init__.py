"""Measurements that anybody can repeat: scripts/bench NAME."""
