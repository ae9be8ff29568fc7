"""Topics and patterns: what chooses what, and what is no topic."""

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
def test_a_pattern_chooses_these_topics_and_no_others(pattern: str) -> None:
    assert {topic for topic in TOPICS if matches(pattern, topic)} == TABLE[pattern]


WORDS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=6).map(".".join)


@given(WORDS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6).map(".".join))
def test_patterns_mean_what_their_regular_expression_means(pattern: str, topic: str) -> None:
    meant = "".join({"*": "[ab]\\.", "**": "([ab]\\.)*"}.get(word, f"{word}\\.") for word in pattern.split("."))
    assert matches(pattern, topic) == (re.fullmatch(meant, topic + ".") is not None)


def test_a_hostile_pattern_costs_little() -> None:
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
async def test_a_half_wild_part_is_refused(pattern: str) -> None:
    async with EventBus() as bus:
        with pytest.raises(BadTopic, match="neither a word nor"):
            bus.subscribe(pattern, print)
