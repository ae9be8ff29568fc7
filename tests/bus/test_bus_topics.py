"""Topics and patterns: which topics a pattern matches, and which texts are refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_graph import BadTopic, EventBus
from beluga_graph.topics import matches

TABLE = {
    "task.done": {"task.done"},
    "task.*": {"task.done", "task.late"},
    "task.**": {"task", "task.done", "task.late", "task.done.late"},
    "*": {"task", "done"},
    "*.done": {"task.done"},
    "**.done": {"done", "task.done"},
    "**.done.**": {"done", "task.done", "task.done.late"},
    "task.**.late": {"task.late", "task.done.late"},
    "**": {"task", "done", "task.done", "task.late", "task.done.late"},
    "*.*.*": {"task.done.late"},
    "tas": set(),
}
TOPICS = ["task", "done", "task.done", "task.late", "task.done.late"]


@pytest.mark.parametrize("pattern", TABLE)
def test_a_pattern_matches_exactly_these_topics(pattern: str) -> None:
    assert {topic for topic in TOPICS if matches(pattern, topic)} == TABLE[pattern]


WORDS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=6).map(".".join)


@given(WORDS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6).map(".".join))
def test_a_pattern_matches_like_its_regular_expression(pattern: str, topic: str) -> None:
    meant = "".join({"*": "[ab]\\.", "**": "([ab]\\.)*"}.get(word, f"{word}\\.") for word in pattern.split("."))
    assert matches(pattern, topic) == (re.fullmatch(meant, topic + ".") is not None)


def test_a_hostile_pattern_is_matched_fast() -> None:
    assert not matches(".".join(["**", "a"] * 30), ".".join(["a"] * 99 + ["b"]))


HOSTILE = ["", ".", "a.", ".a", "a..b", "a" * 201, "a\nb", "a\x00", "a\x1b[31m", "a\u202eb", "\ud800", None, 7, b"a"]


@pytest.mark.parametrize("verb", ["publish", "subscribe"])
@pytest.mark.parametrize("topic", HOSTILE, ids=ascii)
async def test_a_hostile_topic_is_refused_and_shown_harmlessly(topic: str, verb: str) -> None:
    async with EventBus() as bus:

        async def call() -> None:
            if verb == "publish":
                await bus.publish(topic)
            else:
                bus.subscribe(topic, print)

        with pytest.raises(BadTopic) as refused:
            await call()
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300
        assert await bus.trace("") == []


@pytest.mark.parametrize("topic", ["*", "a.*", "**", "a*"])
async def test_an_event_is_not_published_to_a_pattern(topic: str) -> None:
    async with EventBus() as bus:
        with pytest.raises(BadTopic, match="an event has one topic"):
            await bus.publish(topic)


@pytest.mark.parametrize("pattern", ["a*", "***", "a.b*.c"])
async def test_a_part_with_a_wildcard_and_other_characters_is_refused(pattern: str) -> None:
    async with EventBus() as bus:
        with pytest.raises(BadTopic, match="neither a word nor"):
            bus.subscribe(pattern, print)
