"""State of workloads from one running kernel to another, by the agents in both (docs/agent.md).

`worker` is what an agent starts in its kernel for each piece of work; `requests` is what it is told
and what it says. `ends` and `carry` are the host's side, which drivers use.
"""
