"""Tests of the benchmarks: their figures must be correct, too."""
