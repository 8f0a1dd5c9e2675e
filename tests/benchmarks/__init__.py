"""Tests of what measures: what it says must be right, too."""
