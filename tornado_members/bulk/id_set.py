"""A memory-efficient set of ids that are close together."""

_BITS = 12  # of an id that are its position in a page


class IdSet:
    """One bit per id, in pages of 4096 ids: a million consecutive ids take 125 KB.

    An id that is alone in its page takes 512 bytes. Member ids come from a counter, which bounds
    the number of pages.
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
