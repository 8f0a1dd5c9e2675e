"""A set of many ids that lie close together, in little memory."""

_BITS = 12  # of an id that say where it is on its page


class IdSet:
    """A bit an id, on pages of 4096: a million ids in a row take an eighth of a megabyte.

    An id that is alone on its page takes half a kilobyte. The ids of members come from a counter,
    so that there are as many pages at most as it has gone through.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        page = self._pages.get(number >> _BITS)
        if page is None:
            page = self._pages[number >> _BITS] = bytearray(1 << _BITS >> 3)
        place = number & ((1 << _BITS) - 1)
        page[place >> 3] |= 1 << (place & 7)

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _BITS)
        place = number & ((1 << _BITS) - 1)
        return page is not None and bool(page[place >> 3] & 1 << (place & 7))
