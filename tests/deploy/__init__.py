"""Tests of what is in deploy/: whatever here can tell whether it is right."""
