"""Many members at once: rows of other people's files, and what becomes of each."""
