"""Outlines, words, sentences, keywords and links of a text. Pure functions: equal texts give equal answers.

All patterns take time linear in the length of the text, because a folder may contain hostile files.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import log

__all__ = ["Outline", "Sentence", "candidate", "code_outline", "frequent", "links_of", "minutes_of", "prose_outline"]
__all__ += ["sentences_of", "tf_idf", "words_of"]

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z])")
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+)")
_RULE = re.compile(r"([=\-~^\"'`*+#])\1{2,}[ \t]*")
_URL = re.compile(r"https?://[^\s<>\"'`)\]}|\\]+")
_MARKDOWN_LINK = re.compile(r"\[[^\[\]\n]{0,300}\]\(([^()\s<>]{1,500})[^()\n]{0,300}\)")
_DEFINED = re.compile(
    r"\s*(?:(?:async|export|pub|public|private|static|abstract|final|default)\s+)*"
    r"(?:def|class|func|fn|function|interface|struct|trait|enum|type|module)\s+([A-Za-z_]\w*)"
)
_COMMENT = re.compile(r"\s*(?:#(?!!)|//|--|\*|;)+[!/]?\s?(.*)")
_QUOTED = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_MARKUP = re.compile(r"[`*>|]+|(?<!\w)_+|_+(?!\w)|\[([^\[\]\n]{0,300})\]\([^()\s]{1,500}\)")
_WORDS_A_MINUTE = 220

_STOPWORDS = frozenset(
    """
    a about above after again against all also although always am an and another any are aren't as at be
    because been before being below between both but by can can't cannot could did do does doesn't doing don't
    down during each either else even ever every few first for from further get gets give given gives go had
    has have having he her here hers him his how however i if in into is isn't it it's its itself just last
    least less let like made make makes many may me more most much must my never no nor not nothing now of off
    on once one only or other our out over own per rather s same she should since so some still such t take
    takes than that that's the their them then there these they this those though through thus to too two
    under until up upon us use used uses using very was we were what when where whether which while who whom
    whose why will with within without would yet you your
    args async await bool bytes class def elif else except false finally float for from import int kwargs
    lambda list none object pass raise return returns self str true try tuple type while yield
    """.split()  # noqa: SIM905 - two hundred words read better as text
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that a summary may contain."""

    text: str
    path: str
    words: int
    terms: tuple[str, ...]
    """Its words without stopwords, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The structure of a text."""

    title: str
    headings: tuple[str, ...]
    paragraphs: tuple[str, ...]


def prose_outline(text: str, fallback: str) -> Outline:
    """Return the outline of Markdown, reStructuredText or plain text, without its blocks of code."""
    headings: list[str] = []
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced or line.startswith(("    ", "\t")):
            continue
        elif heading := _HEADING.fullmatch(bare):
            headings.append(_clean(heading[2].rstrip("# ")))
            blocks.append([])
        elif _RULE.fullmatch(bare) and len(blocks[-1]) == 1:
            headings.append(_clean(blocks.pop()[0]))  # the line above was underlined
            blocks.append([])
        elif not bare or _RULE.fullmatch(bare):
            blocks.append([])
        else:
            blocks[-1].append(bare)
    return Outline(headings[0] if headings else fallback, tuple(headings), _paragraphs(blocks))


def code_outline(text: str, fallback: str) -> Outline:
    """Return the outline of source code: its definitions as headings, docstrings and comments as paragraphs."""
    names = [match[1] for line in text.splitlines() if (match := _DEFINED.match(line))]
    blocks: list[list[str]] = [
        block.splitlines() for match in _QUOTED.finditer(text) for block in (match[1] or match[2] or "").split("\n\n")
    ]
    blocks.append([])
    for line in _QUOTED.sub("", text).splitlines():
        if match := _COMMENT.fullmatch(line):
            blocks[-1].append(match[1])
        elif blocks[-1]:
            blocks.append([])
    paragraphs = _paragraphs(blocks)
    title = _SENTENCE_END.split(paragraphs[0])[0] if paragraphs else fallback
    return Outline(title if len(title) <= 100 else title[:99] + "…", tuple(names), paragraphs)


def _paragraphs(blocks: list[list[str]]) -> tuple[str, ...]:
    cleaned = (_clean(" ".join(block)) for block in blocks)
    return tuple(paragraph for paragraph in cleaned if _WORD.search(paragraph))


def _clean(text: str) -> str:
    """Return the text on one line, without markup and without characters that do not print."""
    bare = _MARKUP.sub(lambda match: match[1] or (" " if match[0][0] in ">|" else ""), text)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in bare).split())


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def sentences_of(paragraphs: tuple[str, ...]) -> list[str]:
    """Return the sentences of paragraphs, in order."""
    return [sentence for paragraph in paragraphs for sentence in _SENTENCE_END.split(paragraph)]


def minutes_of(words: int) -> int:
    """Return the minutes that reading takes, at least 1."""
    return max(1, -(-words // _WORDS_A_MINUTE))


def frequent(words: list[str], most: int) -> dict[str, int]:
    """Return the most frequent words and their counts, without stopwords; ties in alphabetical order."""
    counts = Counter(word for word in words if len(word) > 2 and word not in _STOPWORDS)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


def candidate(sentence: str, path: str) -> Sentence | None:
    """Return a sentence that a summary may contain; `None` for a fragment, a list or an overlong sentence."""
    words = words_of(sentence)
    if not 8 <= len(words) <= 40 or not sentence[:1].isupper() or sentence[-1] not in ".!?":
        return None
    return Sentence(sentence, path, len(words), tuple(frequent(words, len(words))))


def links_of(text: str) -> tuple[list[str], list[str]]:
    """Return the URLs of a text, and the targets of its relative Markdown links; each once, sorted."""
    urls = {url.rstrip(".,;:!?") for url in _URL.findall(text)}
    targets = {target.partition("#")[0] for target in _MARKDOWN_LINK.findall(text)}
    return sorted(urls), sorted(target for target in targets if target and not re.match(r"[a-zA-Z][\w+.-]*:", target))


def tf_idf(terms: dict[str, int], in_documents: dict[str, int], documents: int) -> dict[str, float]:
    """Return how well each term distinguishes a document, the best first; ties in alphabetical order."""
    total = sum(terms.values()) or 1
    weights = {
        term: round(count / total * log((1 + documents) / in_documents.get(term, 1)), 9)
        for term, count in terms.items()
    }
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))
