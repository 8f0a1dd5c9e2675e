"""Words of members and words of queries."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.model.words import MAX_QUERY_WORDS, query_words, search_words

WORDS = [
    ("Ada Lovelace", ["ada", "lovelace"]),
    ("ada.lovelace_2@example.org", ["ada", "lovelace", "2", "example", "org"]),
    ("O'Brien-Smith", ["o", "brien", "smith"]),
    ("Łódź Søren Þór Æsir", ["lodz", "soren", "thor", "aesir"]),
    ("İstanbul \u0131sparta", ["istanbul", "isparta"]),
    ("Straße ﬁ \uff21\uff24\uff21", ["strasse", "fi", "ada"]),
    ("Σίσυφος", ["σισυφοσ"]),
    ("Ёлкин", ["елкин"]),
    ("مُحَمَّد", ["محمد"]),
    ("\u0645\u06cc\u200c\u062e\u0648", ["\u0645\u06cc\u062e\u0648"]),
    ("अमित कुमार", ["अमित", "कुमार"]),
    ("山田太郎", ["山田太郎", "田太郎", "太郎", "郎"]),
    ("葛\U000e0100城", ["葛城", "城"]),
    ("김철수", ["김철수", "철수", "수"]),
    ("ジョン・スミス", ["ジョン", "ョン", "ン", "スミス", "ミス", "ス"]),
    ("Tokyo東京", ["tokyo", "東京", "京"]),
    ("ใจดี", ["ใจดี", "จดี", "ดี"]),
    ("😀 !?", []),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_search_words_split_and_fold_text(text: str, words: list[str]) -> None:
    assert search_words([text]) == words
    assert search_words([text, text]) == words


@given(st.text(min_size=1, max_size=40), st.data())
def test_query_words_find_every_part_of_a_text(text: str, data: st.DataObject) -> None:
    """Text itself, and the beginning of each of its words, in another case and another form."""
    stored = search_words([text])
    for word in stored[:MAX_QUERY_WORDS]:
        beginning = word[: data.draw(st.integers(1, len(word)))]
        query = unicodedata.normalize("NFD", beginning)
        if search_words([query]):  # not only a mark, whose letter comes before it
            assert all(
                any(word.startswith(query_word) for word in stored)
                for query_word in query_words(query)
            )


@given(st.lists(st.text("aB1 .-é山", max_size=6), max_size=4))
def test_search_words_are_those_of_each_text(texts: list[str]) -> None:
    words = [word for text in texts for word in search_words([text])]
    assert search_words(texts) == list(dict.fromkeys(words))


def test_query_words_leave_out_what_others_imply() -> None:
    assert query_words("a ad Ada lovelace") == ["lovelace", "ada"]


def test_query_words_cut_long_runs_to_the_length_of_what_is_stored() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 40)))
    stored = search_words([text])
    assert max(map(len, stored)) == 16
    assert len(query_words(text)) == 3
    assert set(query_words(text)) <= set(stored)
    assert len(search_words(["山" * 255])) == 16


@pytest.mark.parametrize("query", ["", " ", "_-!", "😀", "a b c d e f g h i", "a " * 9])
def test_query_words_of_no_valid_query_raise_value_error(query: str) -> None:
    with pytest.raises(ValueError, match=r"letter|words"):
        query_words(query)
