"""The demo: a real pipeline over the text files of a folder, made to be killed in the middle.

    documents   which files are documents, and what a run is told of them
    texts       parsing, words, sentences, keywords, links: pure functions of text
    pipeline    the graph, its state and its nodes
    summary     what an agent is told of a document, if a model is named
    report      the report as Markdown, and how it gets to its place

Every node is a function of what the run stored, so a run that was killed and continued ends in the same bytes
as one that never stopped; also with a model, whose answers are stored as well.
"""
