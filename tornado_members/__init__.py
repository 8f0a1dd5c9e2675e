"""A REST service for members: Tornado, MongoDB, and a linearizable cache in Memcached."""

__version__ = "0.1.0"
