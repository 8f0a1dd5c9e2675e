"""What can be called from a shell; each has its script under scripts/."""
