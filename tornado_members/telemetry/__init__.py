"""What the service tells of itself: numbers, and lines of log. Every other room may use it."""
