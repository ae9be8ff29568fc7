"""The demo: a real pipeline over the text files of a folder, made to be killed in the middle.

    documents   the documents of a folder: the input of a run
    texts       outlines, words, sentences, keywords and links: pure functions of text
    values      the values that nodes pass on, and the state
    pipeline    the graph and its nodes
    report      the report as Markdown, and its file

Every node is a function of stored values, so a run that was killed and continued ends in the same bytes as one that
was never stopped. With a model too: its answers are stored like any other value.
"""
