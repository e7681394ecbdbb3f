"""State over a stream, from one running kernel to another (docs/agent.md).

`server` is what `mkupgrade agent` runs in the target: it takes frames of the handover protocol and
lays them where `orchestrator.handover.disk` reads them. `client` is the other end, which
`orchestrator.handover.stream.StreamChannel` sends by. Between the two is `link`: frames (`wire`)
with a proof of the sender in each, by a key that one transaction has (`keys`).
"""
