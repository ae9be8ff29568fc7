"""Texts that people read keep to plain English: habits that slow readers down are counted, and their rates bounded."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The pattern of a habit, and how often it may occur in 1,000 words.
HABITS = {
    "a clause with what": (
        r"\bwhat (?:is|was|it|there|a|an|the|they|does|has|had|can|came|comes|goes|each|such)\b",
        2.0,
    ),
    "tell": (r"\b(?:tell|tells|told)\b", 0.5),
    "somebody, nobody, whoever": (r"\b(?:somebody|nobody|anybody|whoever)\b", 0.3),
    "stand, lie, lead, bear": (r"\b(?:stands?|stood|lies|lay(?! out)|leads?|bears?)\b", 0.5),
    "is no": (r"(?<!there )\b(?:is no|are no|is none|are none|as may be|such as it)\b(?! longer)", 0.5),
    "anew, hence, likewise": (r"\b(?:anew|likewise|thereof|(?<!back and )forth|hence|whence|whichever)\b", 0.3),
}
# A text with each habit, and plain ones that resemble a habit.
EXAMPLES = {
    "a clause with what": "Return what it holds.",
    "tell": "The caller is told of it.",
    "somebody, nobody, whoever": "Nobody waits.",
    "stand, lie, lead, bear": "An edge leads to the node.",
    "is no": "The text is no name.",
    "anew, hence, likewise": "The run begins anew.",
}
PLAIN = "There is no file here, a leading zero is no longer kept, and two agents hand a conversation back and forth."
PARAGRAPH_WORDS_MAX = 90


def code_texts(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a file."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    yield str(statement.value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string:
            yield token.string


def error_texts(path: Path) -> Iterator[str]:
    """Yield the literal parts of the texts of a file that are not docstrings: errors, help, log messages."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if is_text and len(node.value.split()) > 3:
            yield node.value


def test_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name.replace("_", " ")


test_names.__test__ = False  # type: ignore[attr-defined]


def paragraphs(path: Path) -> list[str]:
    """Return the paragraphs of a Markdown file, without code, tables and headings."""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    parts = (part.strip() for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", prose))
    return [part for part in parts if part and not part.startswith(("|", "#"))]


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


MARKDOWN = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "beluga_graph/ARCHITECTURE.md",
    ROOT / ".github/CONTRIBUTING.md",
    *sorted((ROOT / "examples/guide").glob("*.md")),
    *sorted((ROOT / "examples").glob("*_worker/README.md")),
]


@cache
def texts() -> dict[str, list[str]]:
    house = sources("beluga_graph", "stores")
    return {
        "docstrings and comments": [text for path in house for text in code_texts(path)],
        "docstrings and comments of benchmarks and examples": [
            text for path in sources("benchmarks", "examples") for text in code_texts(path)
        ],
        "docstrings and comments of tests": [text for path in sources("tests") for text in code_texts(path)],
        "errors and help": [text for path in house for text in error_texts(path)],
        "test names": [text for path in sources("tests") for text in test_names(path)],
        "Markdown": [text for path in MARKDOWN for text in paragraphs(path)],
    }


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("kind", texts())
def test_a_habit_that_slows_readers_down_is_rare(kind: str, habit: str) -> None:
    pattern, allowed = HABITS[habit]
    found = [text for text in texts()[kind] for _ in re.findall(pattern, text, re.IGNORECASE)]
    words = sum(len(text.split()) for text in texts()[kind])
    assert len(found) * 1_000 / words <= allowed, f"{len(found)} in {words} words, for example: {found[:5]}"


def test_each_pattern_finds_its_habit_and_nothing_in_plain_text() -> None:
    for habit, (pattern, _) in HABITS.items():
        assert re.search(pattern, EXAMPLES[habit], re.IGNORECASE), habit
        assert not re.search(pattern, PLAIN, re.IGNORECASE), habit


@pytest.mark.parametrize("kind", texts())
def test_every_kind_of_text_is_read(kind: str) -> None:
    assert sum(len(text.split()) for text in texts()[kind]) > 500


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_a_paragraph_is_short(path: Path) -> None:
    assert [text for text in paragraphs(path) if len(text.split()) > PARAGRAPH_WORDS_MAX] == []
