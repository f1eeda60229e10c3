"""The composition root: the only package that names concrete classes.

Both shapes are built here from the same parts: embedded (SQLite, embedded broker, everything in one process)
and distributed (PostgreSQL, RabbitMQ, any number of processes).

    core.py       the database and what hangs on it      processes.py   what runs until it is stopped
    engine.py     orchestrator, relay, timers            sessions.py    the API for one command
    elsewhere.py  workers in exchanges, and a Manager of the original
"""
