"""Members, their fields and attributes, and the rules of these, without I/O."""
