"""Runs flows on a Temporal server. The kernel that decides local runs also decides these, within Temporal workflows.

| question                               | where                                                         |
|----------------------------------------|---------------------------------------------------------------|
| What do users hold?                    | `engine`, `run`, `worker`                                     |
| What drives a run on the server?       | `workflow` (in the sandbox of Temporal workflows)             |
| What makes the attempts in a worker?   | `activities`                                                  |
| Where are large values stored?         | `claims`                                                      |
| How does live text reach followers?    | `live`                                                        |
| How is the server reached, and its     | `connection`: its client, workflows, histories, pollers,      |
| state read?                            | errors                                                        |
| How is a run read from its history?    | `mirror`                                                      |
| How does a run start, go on, and how   | `client`                                                      |
| is it followed?                        |                                                               |
"""

import lazy_loader

# The sandbox of the workflow loads this package: it must not load the client of the SDK, nor the engine.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
