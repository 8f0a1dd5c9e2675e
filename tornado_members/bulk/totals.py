"""Rows of totals, such as `Total members: 12`, which spreadsheets and reports contain.

A row is one if its name consists of words for a total, the row has a number, and nothing in the row
could belong to a person. People and companies have names such as "Sum Wong" and "Total Fitness".
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

_TOTALS_TEXT: Final = """
total totals totale totales totali totaux totaal totais subtotal subtotals sum summe somme suma soma
somma gesamt insgesamt gesamtsumme gesamtzahl zwischensumme anzahl count aantal
"""
_ROWS_TEXT: Final = """
members rows records entries contacts people persons customers users subscribers names mitglieder
zeilen datensätze einträge kontakte personen kunden membres lignes clients miembros socios filas
registros contactos clientes membri soci righe contatti clienti membros linhas contatos leden rijen
"""
_OTHERS_TEXT: Final = """
grand overall general generale général number nombre no sub of the all for in and as active
der die von aller de des du la le les del di e et und
"""
_TOTALS: Final = frozenset(_TOTALS_TEXT.split())
_ROWS: Final = frozenset(_ROWS_TEXT.split())
_WORDS: Final = _TOTALS | _ROWS | frozenset(_OTHERS_TEXT.split())
_GATE: Final = _TOTALS | _ROWS | {"grand", "overall", "number", "nombre", "no", "sub"}
_WORD: Final = re.compile(r"[^\W\d_]+")
_FIRST_WORD: Final = re.compile(r"[\W\d_]*+([^\W\d_]+)")
_NUMBER: Final = re.compile(r"[0-9]")
_ENDS_IN_NUMBER: Final = re.compile(r"[:=#]\s*\(?[0-9][0-9.,' ]*\)?\s*\Z")
_PHONE_DIGITS: Final = 7  # from which a number may be a telephone number


def is_total(cells: Sequence[str], names: Collection[int], used: Collection[int]) -> bool:
    """True if the cells are those of a row of totals.

    `names` are the columns of the name, and `used` those of all fields.
    """
    name = next((cells[i] for i in names if i < len(cells) and cells[i]), "")
    first = _FIRST_WORD.match(name)
    if first is None or first[1].casefold() not in _GATE:
        return False
    others = [cell for i, cell in enumerate(cells) if i not in names and cell.strip()]
    phones = [cells[i] for i in used if i < len(cells) and i not in names]
    return (
        _means_total(name)
        and any(_NUMBER.search(text) for text in (name, *others))
        and all(_is_of_words(text) for text in others)
        and not any(len(_NUMBER.findall(text)) >= _PHONE_DIGITS for text in phones)
    )


def _means_total(name: str) -> bool:
    words = {word.casefold() for word in _WORD.findall(name)}
    ends_in_number = _ENDS_IN_NUMBER.search(name) is not None
    if words & _TOTALS:
        return ends_in_number or words <= _WORDS
    return ends_in_number and words <= _WORDS  # such as "Members: 12"


def _is_of_words(text: str) -> bool:
    """True if the text has no words other than those of totals."""
    return "@" not in text and all(word.casefold() in _WORDS for word in _WORD.findall(text))
