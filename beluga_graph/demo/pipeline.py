"""The pipeline: the graph, its state and its nodes.

ingest ─ documents ═╤═ read ─┬─ prose ─┬─ aspects ═╤═ count ════╤═ document ═╤═ corpus ─ review ─┬─ publish
                    │        └─ code ──┘           ├═ keywords ═╡            │     ↑   ↑         │
                    │                              ├═ links ════╡            │     │   ├ extend ─┤
                    │                              └═ summary ══╛            │     │   └ tighten ┤
                    └═ …      (a branch for each document)                   ┘     └─────────────┘

`summary` is there if a model is given: an agent says in a sentence what a document is about.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from beluga_graph import END, START, Context, Failure, Graph, Retry
from beluga_graph.demo import texts
from beluga_graph.demo.documents import Job, Task
from beluga_graph.demo.report import Report, Row, render, write_report
from beluga_graph.demo.summary import excerpt_of, summarizer
from beluga_graph.demo.texts import Sentence
from beluga_graph.demo.values import Corpus, Counts, Desk, Draft, Links, Parsed, Read, Source, Terms
from beluga_graph.models import Model

__all__ = ["ABREAST", "TURNS_MAX", "Corpus", "Desk", "DocumentChanged", "Draft", "pipeline", "pipeline_with"]

ABREAST = 2  # documents read at a time
TURNS_MAX = 12
WORDS_WANTED = (90, 130)
_TERMS_KEPT = 80  # of one document
_CANDIDATES_KEPT = 4  # sentences of one document
_CANDIDATES_WEIGHED = 60  # sentences of the corpus
_KEYWORDS = 20  # of the corpus
_KEYWORDS_SHOWN = 5  # of one document


class DocumentChanged(Exception):
    """A document is not the one that was listed when the run began."""


def ingest(ctx: Context, job: Job) -> Job:
    """Take the list of documents on record."""
    ctx.update(notes=f"{len(job.documents)} documents of {sum(d.size for d in job.documents):,} bytes")
    return job


def tasks(job: Job) -> list[Task]:
    """Give each document a branch."""
    return [Task(job.folder, document) for document in job.documents]


def read(ctx: Context, task: Task) -> Source:
    """Read a document, and make sure that it is still the one that was listed."""
    time.sleep(ctx.deps.pause_s if ctx.deps is not None else 0)
    content = Path(task.folder, task.document.path).read_bytes()
    if sha256(content).hexdigest() != task.document.digest:
        raise DocumentChanged("it changed while the run was under way")
    return Source(task, content.decode("utf-8"))


def prose(source: Source) -> Parsed:
    """Find title, headings and paragraphs of a text."""
    outline = texts.prose_outline(source.text, Path(source.task.document.path).name)
    return Parsed(source.task, outline, texts.links_of(source.text))


def code(source: Source) -> Parsed:
    """Find what source code defines, and its docstrings and comments."""
    outline = texts.code_outline(source.text, Path(source.task.document.path).name)
    return Parsed(source.task, outline, (texts.links_of(source.text)[0], []))


def count(ctx: Context, parsed: Parsed) -> Counts:
    """Count words and sentences."""
    document, outline = parsed.task.document, parsed.outline
    sentences = texts.sentences_of(outline.paragraphs)
    words = sum(len(texts.words_of(sentence)) for sentence in sentences)
    ctx.update(words=words, sentences=len(sentences), kinds={document.kind: 1}, longest=(words, document.path))
    headings = len(outline.headings)
    return Counts(document.path, document.kind, outline.title, headings, words, len(sentences))


def keywords(ctx: Context, parsed: Parsed) -> Terms:
    """Find what the document is about, and sentences that say so."""
    path, outline = parsed.task.document.path, parsed.outline
    words = [word for part in (*outline.headings, *outline.paragraphs) for word in texts.words_of(part)]
    counts = texts.frequent(words, _TERMS_KEPT)
    ctx.update(in_documents=dict.fromkeys(counts, 1))
    found = [texts.candidate(sentence, path) for sentence in texts.sentences_of(outline.paragraphs)]
    weighed = sorted(
        (sentence for sentence in found if sentence is not None),
        key=lambda sentence: -sum(counts.get(term, 0) for term in sentence.terms) / sentence.words,
    )
    return Terms(counts, tuple(weighed[:_CANDIDATES_KEPT]))


def links(ctx: Context, parsed: Parsed) -> Links:
    """Look where links lead; relative ones must lead to a file."""
    path = parsed.task.document.path
    urls, targets = parsed.links
    folder = Path(parsed.task.folder, path).parent
    broken = [target for target in targets if not _leads_somewhere(folder, target)]
    ctx.update(hosts=[host for url in urls if (host := _host(url))], broken=[f"{path}: {name}" for name in broken])
    return Links(len(urls), len(targets), len(broken))


def _leads_somewhere(folder: Path, target: str) -> bool:
    try:
        return (folder / unquote(target).lstrip("/")).exists()
    except (OSError, ValueError):  # a target that can be no file name
        return False


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def excerpt(parsed: Parsed) -> str:
    """Give the agent what it is told of a document."""
    return excerpt_of(parsed.task.document.path, parsed.outline)


def document(ctx: Context, results: list[Counts | Terms | Links | str]) -> Read:
    """Put the aspects of one document together."""
    counts, terms, found, *said = results
    assert isinstance(counts, Counts)
    assert isinstance(terms, Terms)
    assert isinstance(found, Links)
    row = Row(
        path=counts.path,
        kind=counts.kind,
        title=counts.title,
        headings=counts.headings,
        words=counts.words,
        urls=found.urls,
        relative=found.relative,
        broken=found.broken,
    )
    ctx.update(documents=1, rows=row)
    if said:  # by an agent
        ctx.update(summaries={counts.path: " ".join(str(said[0]).split())})
    return Read(counts.path, terms)


def unreadable(ctx: Context, failure: Failure) -> Read:
    """Go on without a document that cannot be read, and say so in the report."""
    path = failure.input.document.path
    reason = "it changed meanwhile" if failure.type == DocumentChanged.__name__ else failure.type
    ctx.update(unread=f"{path}: {reason}")
    return Read(path, Terms({}, ()))


def corpus(ctx: Context, results: list[Read]) -> Draft:
    """Compare the documents: keywords by tf-idf, and the sentences that a summary may use."""
    in_documents = ctx.state.in_documents
    overall: Counter[str] = Counter()
    telling: dict[str, list[str]] = {}
    for found in results:
        weights = texts.tf_idf(found.terms.counts, in_documents, len(results))
        telling[found.path] = list(weights)[:_KEYWORDS_SHOWN]
        overall.update(weights)
    ranked = sorted(overall, key=lambda term: (-round(overall[term], 9), term))[:_KEYWORDS]
    ctx.update(telling=telling, keywords=ranked)
    sentences = {sentence.text: sentence for found in results for sentence in found.terms.candidates}
    return Draft((), _best_first(list(sentences.values()), ranked)[:_CANDIDATES_WEIGHED], tuple(ranked))


def _best_first(sentences: list[Sentence], ranked: Sequence[str]) -> tuple[Sentence, ...]:
    weight = {term: len(ranked) - place for place, term in enumerate(ranked)}

    def order(sentence: Sentence) -> tuple[float, str, str]:
        value = sum(weight.get(term, 0) for term in sentence.terms) / sentence.words
        return -round(value, 9), sentence.path, sentence.text

    return tuple(sorted(sentences, key=order))


def review(ctx: Context, draft: Draft) -> Draft:
    """Judge the summary; each turn is on record."""
    turn = draft.turn + 1
    note = f"turn {turn}: {draft.words} words, {len(draft.covered)} of {len(draft.keywords)} keywords"
    ctx.update(turns=1, notes=note)
    return replace(draft, turn=turn)


def verdict(draft: Draft) -> str:
    """Say what the summary needs."""
    least, most = WORDS_WANTED
    if draft.turn >= TURNS_MAX:
        return "enough"
    if draft.words > most:
        return "too long"
    return "too short" if draft.words < least and draft.left else "good"


def extend(draft: Draft) -> Draft:
    """Add the sentence that mentions most keywords that are still missing; the better one at a tie."""
    missing = set(draft.keywords) - draft.covered
    taken = Counter(sentence.path for sentence in draft.chosen)
    best = max(draft.left, key=lambda sentence: (len(missing & set(sentence.terms)), -taken[sentence.path]))
    left = tuple(sentence for sentence in draft.left if sentence is not best)
    return replace(draft, chosen=(*draft.chosen, best), left=left)


def tighten(draft: Draft) -> Draft:
    """Drop the sentence whose keywords are the fewest for its length."""
    known = set(draft.keywords)
    worst = min(draft.chosen, key=lambda sentence: len(known & set(sentence.terms)) / sentence.words)
    return replace(draft, chosen=tuple(sentence for sentence in draft.chosen if sentence is not worst))


def publish(ctx: Context, draft: Draft) -> Report:
    """Write the report to its place. Done twice, it leaves the same file."""
    state = ctx.state
    text = render(
        folder=Path(ctx.input.folder).name,
        words=state.words,
        sentences=state.sentences,
        kinds=state.kinds,
        longest=state.longest,
        keywords=state.keywords,
        summary=[sentence.text for sentence in draft.chosen],
        summaries=state.summaries,
        rows=list(state.rows),
        telling=state.telling,
        hosts=sorted(state.hosts),
        broken=list(state.broken),
        unread=list(state.unread),
        notes=list(state.notes),
    )
    if ctx.deps is not None:  # a fork or a resume outside of the demo has nowhere to write to
        write_report(ctx.deps.report, text, ctx.run_id)
    ctx.update(report=text)
    return Report(
        documents=state.documents,
        words=state.words,
        turns=state.turns,
        broken=len(state.broken),
        unread=len(state.unread),
        digest=sha256(text.encode()).hexdigest(),
    )


def pipeline_with(model: Model | str | None = None) -> Graph:
    """Return the graph. With a model an agent says in a sentence what each document is about; else none is asked."""
    g = Graph("documents", state=Corpus)
    for node in (ingest, prose, code, count, keywords, links, unreadable, review, extend, tighten, publish):
        g.node(node)
    g.node(retry=Retry(attempts=3, initial=0.1, retry_on=(OSError,)))(read)
    aspects = ["count", "keywords", "links"]
    for aspect in aspects:
        g.edge(aspect, "document")
    if model is not None:
        g.node(excerpt)
        g.edge("excerpt", g.add(summarizer("summary", model)))
        g.edge("summary", "document")
        aspects.append("excerpt")

    g.edge(START, "ingest")
    g.edge("ingest", "documents")
    g.fan_out("documents", to="read", over=tasks, join="corpus", max_concurrency=ABREAST)
    g.branch("read", lambda source: source.task.document.kind, {"prose": "prose", "code": "code"})
    g.on_error("read", "unreadable")
    g.edge("prose", "aspects")
    g.edge("code", "aspects")
    g.fan_out("aspects", to=aspects, join="document")
    g.join("document", document)
    g.edge("document", "corpus")
    g.edge("unreadable", "corpus")
    g.join("corpus", corpus)
    g.edge("corpus", "review")
    g.branch("review", verdict, {"too short": "extend", "too long": "tighten", "good": "publish", "enough": "publish"})
    g.edge("extend", "review")
    g.edge("tighten", "review")
    g.edge("publish", END)
    return g


pipeline = pipeline_with()
