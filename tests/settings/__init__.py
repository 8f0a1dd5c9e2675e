"""Tests of the settings: their loading, and the reference that is generated from them."""
