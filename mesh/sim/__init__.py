"""The other driver: a whole cluster in one thread, on a clock, a network and disks that a seed makes up and breaks.

It runs the same `mesh.core.node.Node` and the same `mesh.runtime.worker.Worker` as production. The seed decides
everything, so one number replays a run. `tools/simulate.py` is its command.

    scenario    what a seed means: nodes, network, workload     trouble     which faults a mood means
    world       the clock, and who acts when                    process     one life of a node
    host        where it lives: a clock and a disk              network     delays, loses, doubles, cuts
    faults      what is done, and its words                     comings     joins, leaves, rolling restarts
    stores      what a durable world has on its disks           writing     how long a process's writes and commits take
    outages     what only disks survive, and full disks
    workload    an application whose every record says who      instruments what it tells of a process
    ledger      what became of every record                     reads       single states, asked for at any time
    kept_ledger the same where slots have copies, by branches   copies      what may become of these
    clients     producers that try again through other nodes    posted      what these are told, and is it true
    checkers    the rules, after every event; parts of it are   epochs, votes, bound (of moves), owners, touch
    goals       what must be true in the end                    transcript  a run in words
    drawn       workloads and clients, as a seed has them       connectors  where the workload reads and writes
    violation   what all of these raise
"""
