"""The demo's analysis of texts."""

import pytest

from beluga_graph.demo import texts


def test_the_outline_of_markdown() -> None:
    outline = texts.prose_outline(
        "# A *Title* #\n\nOne line\nand another.\n\n```\n# no heading\n```\n\n## Part [one](x.md)\n\n- item\n",
        "fallback",
    )
    assert outline.title == "A Title"
    assert outline.headings == ("A Title", "Part one")
    assert outline.paragraphs == ("One line and another.", "- item")


def test_the_outline_of_underlined_headings() -> None:
    outline = texts.prose_outline("Title\n=====\n\nText.\n\nPart\n----\nMore.\n\n----\n", "fallback")
    assert outline.headings == ("Title", "Part")
    assert outline.paragraphs == ("Text.", "More.")


def test_the_title_of_a_text_without_headings_is_its_file_name() -> None:
    assert texts.prose_outline("Only words.", "notes.txt").title == "notes.txt"
    assert texts.prose_outline("", "empty.md") == texts.Outline("empty.md", (), ())


def test_the_outline_of_code() -> None:
    outline = texts.code_outline(
        '"""What it does. In long."""\n\nasync def run(x):\n    # Why so.\n    return "#"\n\nclass Thing:\n',
        "a",
    )
    assert outline.title == "What it does."
    assert outline.headings == ("run", "Thing")
    assert outline.paragraphs == ("What it does. In long.", "Why so.")


def test_links_are_found_once_and_sorted() -> None:
    text = "<https://b.org/x>, https://a.org/. [one](b.md#part) [again](b.md) [mail](mailto:x@y) [top](#top) ![](a.png)"
    assert texts.links_of(text) == (["https://a.org/", "https://b.org/x"], ["a.png", "b.md"])


def test_frequent_words_exclude_stopwords_and_break_ties_alphabetically() -> None:
    words = texts.words_of("The whale and the ledger: whale, graph! It's an égalité.")
    assert texts.frequent(words, 3) == {"whale": 2, "graph": 1, "ledger": 1}


def test_a_term_of_every_document_weighs_least() -> None:
    weights = texts.tf_idf({"common": 2, "rare": 2}, {"common": 10, "rare": 1}, 10)
    assert list(weights) == ["rare", "common"]


@pytest.mark.parametrize(
    "sentence", ["Too short.", "no capital letter but otherwise long enough to be taken up.", "W " * 50 + "."]
)
def test_fragments_are_not_sentences_for_a_summary(sentence: str) -> None:
    assert texts.candidate(sentence, "a.md") is None


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "](" * 100_000, "[a](" * 50_000, '"""' * 100_000, "# " * 200_000, "* " * 200_000, "_" * 400_000],
)
def test_a_hostile_text_is_read_in_linear_time(text: str) -> None:
    """Quadratic patterns would read these texts for hours."""
    urls, _ = texts.links_of(text)
    assert urls == []
    outlines = texts.prose_outline(text, "a"), texts.code_outline(text, "a")
    assert all(
        len(sentence) <= len(text) for outline in outlines for sentence in texts.sentences_of(outline.paragraphs)
    )
