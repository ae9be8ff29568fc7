"""The page: a flow, or a run that can be replayed, as one HTML file.

page        render_page(): joins the parts, and restricts the page by a policy
replay      the run as JSON: a head, then a delta for each step
values      values as JSON text, cut and bounded
page.html   the elements
page.css    the layout; the colours come from the theme
*.js        the behaviour, joined in this order:

    model     the head and the deltas; the state of the run at any step. Independent of the page
    dom       creates elements, and formats numbers
    list      a list that creates only the rows in view
    graph     the drawing: statuses, zoom, selection of a node
    timeline  the visits as bars, with a lane for each branch
    panel     the details of a step, and of a node
    search    the list of events, and the search in it
    transport the slider over the steps, and playback
    app       connects the parts, and handles the keys
"""

from beluga_graph.draw.page.page import render_page

__all__ = ["render_page"]
