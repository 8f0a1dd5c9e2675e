"""Numbers that a server repeats after each reply, so that no reply is taken for another one.

Most replies do not name their request: "STORED", or "END" if no key has a value. So a server or a
proxy that sends a reply twice would shift all later ones: each command would receive the reply to
the command before it, which may be older than a write that was acknowledged since. The connection
therefore sends a numbered request after each command, and returns the result of the command only
after the reply with that number.

That request is a "Meta Delete" of a key under which nothing is stored. No other command returns its
number ("opaque") for a missing key in each version of Memcached that has meta commands.
"""

from typing import Final

# Pairs of a request and its reply. They are used in turn: a reply too many is noticed at once.
ECHOES: Final = tuple(
    (b"md lease_cache:echo O%d\r\n" % number, b"NF O%d\r\n" % number) for number in range(1000)
)
