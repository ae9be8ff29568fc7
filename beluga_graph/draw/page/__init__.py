"""The page: a flow, or a run that can be replayed, as one HTML file.

page        page(): joins the parts and locks the page up
page.html   what stands on it
page.css    how it looks; the colours come from the theme
*.js        what it does, in the order in which they are joined:

    model     the head and the deltas; the state of the run at any step. Knows nothing of the page
    dom       making elements, and words for numbers
    list      a list of which only what is in view is there
    graph     the drawing: marks, zoom, choice of a node
    timeline  the visits as bars, a lane for each branch
    panel     what is known of a step, and of a node
    search    the list of events, and what is looked for in it
    transport the scrubber, and playing
    app       ties them together, and the keys
"""

from beluga_graph.draw.page.page import page

__all__ = ["page"]
