"""The commands: each module declares the signatures of one or several, beside their bodies.

    demo        `demo`
    runs        `runs`, `history`, `events`: the runs of a store
    show        `show`: one run
    why         `why`: why a run does not go on
    diff        `diff`: two runs beside each other
    draw        `draw`: a flow, or a run over its graph
    verify      `verify`: the damage of a store
    signals     `pending`, `answer`, `signal`, `cancel`: input for runs
    drive       `resume`, `fork`, `serve`: runs that advance in this process
    schedule    `schedule`: list, add, pause, unpause, remove: runs that start at points in time
    temporal    `worker`, `mirror`: runs on a Temporal server
    check       `check`: unfinished runs that a changed flow would break
    maintain    `prune`, `compact`: the size of a store

Command modules import only light modules at the top: `beluga-graph --help` loads all of them.
"""
