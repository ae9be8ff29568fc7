"""Topics: words with dots between them that classify events, and patterns that match topics.

| pattern         | matches                                    | but not                    |
|-----------------|--------------------------------------------|----------------------------|
| `task.done`     | `task.done`                                | `task`, `task.done.late`   |
| `task.*`        | `task.done`                                | `task`, `task.done.late`   |
| `task.**`       | `task`, `task.done`, `task.done.late`      | `tasks.done`               |
| `**.done`       | `done`, `task.done`                        | `task.done.late`           |
| `**`            | everything                                 |                            |
"""

from __future__ import annotations

from itertools import accumulate
from operator import or_

from beluga_graph.codec.safe_repr import format_value
from beluga_graph.errors import BadTopic
from beluga_graph.kernel.names import is_blank

__all__ = ["TOPIC_LENGTH_MAX", "check_pattern", "check_topic", "matches"]

TOPIC_LENGTH_MAX = 200
_RULE = f"1 to {TOPIC_LENGTH_MAX} printable characters, in parts with dots between them, none of them empty or blank"


def check_topic(topic: str) -> str:
    """Return the topic if it is valid. Raises `BadTopic` otherwise."""
    _check(topic, "topic")
    if "*" in topic:
        raise BadTopic(f"topic {format_value(topic)}: a * is for patterns; an event has one topic")
    return topic


def check_pattern(pattern: str) -> str:
    """Return the pattern if it is valid. Raises `BadTopic` otherwise."""
    _check(pattern, "pattern")
    for part in pattern.split("."):
        if "*" in part and part not in ("*", "**"):
            rule = "is neither a word nor * (one) nor ** (any number)"
            raise BadTopic(f"pattern {format_value(pattern)}: {format_value(part)} {rule}")
    return pattern


def matches(pattern: str, topic: str) -> bool:
    """Return whether a pattern matches a topic. The cost is at most the product of their numbers of parts."""
    parts = topic.split(".")
    reached = [True] + [False] * len(parts)  # by length: whether the pattern so far matches the beginning of the topic
    for word in pattern.split("."):
        if word == "**":
            reached = list(accumulate(reached, or_))
        else:
            reached = [False, *(matched and word in ("*", part) for matched, part in zip(reached, parts, strict=False))]
    return reached[-1]


def _check(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise BadTopic(f"{what} {format_value(text)} is a {type(text).__name__}: give a str of {_RULE}")
    if not 0 < len(text) <= TOPIC_LENGTH_MAX or not text.isprintable() or any(map(is_blank, text.split("."))):
        raise BadTopic(f"{what} {format_value(text)} of {len(text)} characters: give {_RULE}")
