"""Drawing: a flow, or a run over its flow, in any format. Works on shapes and traces, without a store.

render    render(): one format, by name
display   notebook displays
formats/  svg, mermaid, dot, ascii, networkx; each escapes text for its own syntax
page/     the HTML page on which a run can be replayed
layout/   the positions of boxes, lines and labels
overlay   the statistics of a run, by box and line of a picture
picture   the boxes and lines of a flow
sketch    the picture of a graph that does not compile
theme     words, signs, icons and colours
text      the width of text, and the characters that can be shown
"""
