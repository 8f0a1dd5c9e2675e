"""RecentFacts forgets what is old, and what is too much."""

from tornado_members.storage.recent_facts import _MAX_ITEMS, RecentFacts


def test_fact_is_forgotten_after_its_time() -> None:
    now = 0.0
    facts = RecentFacts(5, clock=lambda: now)
    facts.add("a")
    now = 3.0
    facts.add("b")
    assert "a" in facts
    now = 5.0
    assert "a" not in facts
    assert "b" in facts
    facts.add("a")
    assert "a" in facts


def test_oldest_fact_is_forgotten_above_the_limit() -> None:
    facts = RecentFacts(5, clock=lambda: 0.0)
    for number in range(_MAX_ITEMS):
        facts.add(number)
    facts.add(0)
    facts.add("new")
    assert 1 not in facts
    assert {0, 2, "new"} == {fact for fact in (0, 2, "new") if fact in facts}
