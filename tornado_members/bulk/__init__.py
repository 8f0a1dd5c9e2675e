"""Imports and exports: file formats, batches of rows, and the result of each row."""
