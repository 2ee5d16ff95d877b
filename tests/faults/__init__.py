"""The fault rig: workers, broker and store are broken on purpose, and the numbers must stay right.

::

    stream.py     what is written to the topics: copies, corrections, early, late and bad records
    schedule.py   what goes wrong, and when: drawn from a seed
    worker.py     a worker that kills or freezes itself at a chosen step of the order of effects
    broken.py     the same worker with one guarantee taken away: the rig must find that out
    rig.py        runs a schedule on Apache Kafka and a real Redis, compares with a replay, audits

``python -m benchmarks faults`` runs many schedules and prints the table of docs/guarantees.md.
"""
