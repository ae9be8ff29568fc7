"""Drawing: a flow, or what a run of it did, in any format. Knows shapes and committed steps, and no store.

formats   drawn(): one format, by name
display   what a notebook shows
sketch    the picture of a graph that does not compile
svg  mermaid  dot  ascii  page/  export     a picture, each escaping for itself
theme  text                                 how kinds and states look; how wide text is, what of it can be shown
layout    where everything stands, frame by frame
    layered  order  ranks                   one level: bands and routes; crossings and places; ranks and ways
overlay   a run laid over a picture
replay  values  tree                        a run step by step as JSON; as a tree of visits
trail  marks                                the fold over steps that all of these ask
picture   boxes and lines: what there is to draw of a shape
"""
