"""Runs flows on a Temporal server. The kernel that decides local runs also decides these, within Temporal workflows.

| question                               | modules                                                       |
|----------------------------------------|---------------------------------------------------------------|
| What do users hold?                    | `engine`, `run`, `worker`                                     |
| What drives a run on the server?       | `run_workflow`, `workflow_driver`, `dispatch` (in a sandbox)  |
| What makes the attempts?               | `activity`, `progress`, `ahead`, `values`                     |
| What crosses between them?             | `wire`, `replies`, `pieces`, `options`                        |
| What keeps a conversation?             | `sessions`, `session_workflow`, `session_activity`, `handing_back` |
| What passes messages to a bus?         | `outgoing`, `outbox_workflow`, `publish_activity`             |
| Where are large values?                | `claims`, `claim_places`                                      |
| How does a run come to the server?     | `starting`, `adopting`, `forking`, `arrivals`, `requests`     |
| What is sent to its workflow?          | `sending`, `workflows`                                        |
| How is it followed and read?           | `following`, `looks`, `mirrored_runs`, `mirror`, `replay`,    |
|                                        | `executions`                                                  |
| How does live text reach followers?    | `live_text`, `side_channels` (in the worker), `side_channel`, |
|                                        | `live_records`, `listener`, `feeds`, `beats`, `live_view`     |
| What if the server or workers fail?    | `connection`, `pollers`, `watchdog`, `faults`                 |
"""

import lazy_loader

# The sandbox of the workflow loads this package: it must not load the client of the SDK, nor the engine.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
