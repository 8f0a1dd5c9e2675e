"""A linearizable read-through cache over Memcached: the only package that uses Memcached."""
