"""The parts of the benchmarks: the servers that they start, the requests, and the tables."""
