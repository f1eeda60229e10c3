"""What can go wrong, by number, and what must then be true. The numbers are cited all over the tests.

A number is never used for anything else, and a row never taken out.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One row."""

    wrong: str
    must: str


SECTIONS: dict[str, dict[str, Fault]] = {
    "An orchestrator that dies, stands still or comes back": {
        "F01": Fault(
            "It dies before it has decoded a message.", "The message is delivered again, and applied once."
        ),
        "F02": Fault("It dies between decoding and deciding.", "The same: deciding leaves no trace."),
        "F03": Fault("It dies, or cannot save, after deciding.", "Nothing was sent and nothing acknowledged."),
        "F04": Fault("It dies while saving, before the COMMIT.", "All is rolled back, and decided again."),
        "F05": Fault(
            "The COMMIT arrives, its answer does not.",
            "The outcome counts as unknown: one transition, read again.",
        ),
        "F06": Fault("It dies after saving, before the ack.", "The message comes again and changes nothing."),
        "F07": Fault(
            "It dies after the ack, before publishing.", "Any relay publishes the request from the outbox."
        ),
        "F08": Fault(
            "It dies after publishing, before the confirm.", "The same message goes out again; it runs once."
        ),
        "F09": Fault("It dies after the confirm, before noting it.", "The same."),
        "F10": Fault(
            "Its ack is lost on the way.", "The message comes again, is recognised, and changes nothing."
        ),
        "F11": Fault(
            "It dies while it starts, or recovers.", "The next start goes on; recovery is nothing special."
        ),
        "F12": Fault(
            "It is killed in the middle of its work.", "Others go on at once; nothing is lost or doubled."
        ),
        "F13": Fault(
            "It is told to stop under load.",
            "It takes no more, finishes what it has, and ends with 0; told again, at once.",
        ),
        "F14": Fault(
            "It stands still for longer than its leases, then goes on.",
            "What it had decided is stale: saving it fails, and it decides anew.",
        ),
        "F15": Fault(
            "A handler fails in a way that nobody thought of.", "Its message is put aside; the others are handled."
        ),
        "F16": Fault(
            "Its event loop is blocked for longer than a heartbeat.", "It connects again; nothing is lost."
        ),
    },
    "The broker": {
        "F17": Fault(
            "It is killed and started again.", "All reconnect by themselves; what was confirmed is there."
        ),
        "F18": Fault(
            "The connection is lost before a confirm.", "The same message, with the same id, goes out again."
        ),
        "F19": Fault(
            "A queue never confirms.",
            "The request stays in the outbox and is tried again; the other queues get theirs.",
        ),
        "F20": Fault("The broker refuses a message (nack).", "It stays in the outbox."),
        "F21": Fault("A message is delivered again.", "It is applied if it never was, and recognised if it was."),
        "F22": Fault(
            "A message comes twice, under two ids.",
            "Starts are known by their workflow, answers by their attempt.",
        ),
        "F23": Fault("Messages overtake each other.", "A late one changes nothing; an early one is not lost."),
        "F24": Fault(
            "No queue takes a request.",
            "A queue of ours is made again; else the workflow waits with a reason, and fails in the end.",
        ),
        "F25": Fault(
            "Nobody consumes the queue of the workers.", "The request waits, is asked again, and fails late."
        ),
        "F26": Fault("Our queue is deleted under us.", "It is made again if it is ours, and consumed again."),
        "F27": Fault(
            "A queue of workers is deleted, with its requests.", "They are asked again after their deadline."
        ),
        "F28": Fault("A queue exists with other arguments.", "Refused with advice; never deleted."),
        "F29": Fault("An exchange is missing.", "That message is unroutable; others are not affected."),
        "F30": Fault("A message can never be handled.", "It is put aside with the reason; its queue goes on."),
        "F31": Fault(
            "A message ends the process that handles it.",
            "It is counted across restarts, handled alone, and put aside.",
        ),
        "F32": Fault(
            "RabbitMQ gives messages up after too many deliveries.",
            "Guilty or not, they are kept, and can be sent again.",
        ),
        "F33": Fault("The queue for dead letters is missing.", "No queue is consumed before it has one."),
        "F34": Fault("A message is too large.", "It is refused by its size, before it is decoded."),
        "F35": Fault("A message of ours would be too large.", "It is refused before it closes the channel."),
        "F36": Fault(
            "RabbitMQ ends consumers that hold a message for long.", "None is held while anything waits or runs."
        ),
        "F37": Fault(
            "The broker has forgotten a consumer that we believe in.", "A probe finds out; it subscribes again."
        ),
        "F38": Fault(
            "Memory or disk of the broker is short.",
            "Requests wait in the outbox; nothing is lost or sent twice over.",
        ),
        "F39": Fault("A connection is silent and half open.", "It is given up within two heartbeats."),
        "F40": Fault(
            "An orchestrator reaches only one of broker and database.", "It decides nothing that it cannot save."
        ),
        "F41": Fault(
            "The broker's cluster has lost its majority.", "What is not confirmed does not count as sent."
        ),
        "F42": Fault(
            "The broker has lost its data.",
            "Queues are made again; requests are asked again; what runs is reported and counts.",
        ),
    },
    "The database, the disk and the Manager": {
        "F43": Fault(
            "A deadlock, or a conflict of transactions.", "The whole transaction is repeated, a few times."
        ),
        "F44": Fault("Two handle the same message at once.", "The second finds it handled."),
        "F45": Fault("The database is killed and started again.", "Work pauses and goes on; no commit is lost."),
        "F46": Fault(
            "A database is restored without its last commits.",
            "A proven answer to an attempt that it does not know is no ordinary late one: a person is asked.",
        ),
        "F47": Fault("The database is slow.", "The intake slows down; connections stay, and calls have an end."),
        "F48": Fault(
            "The disk is full.", "Nothing is acknowledged that is not saved; work goes on when there is room."
        ),
        "F49": Fault("A stored workflow cannot be read.", "It is left as it is and told of; the others go on."),
        "F50": Fault("The power fails under SQLite.", "What was answered is on the disk."),
        "F51": Fault("A second process opens the SQLite file.", "It is refused, with the pid of the first."),
        "F52": Fault("The Manager answers 401.", "One renewal for all, then the same call again."),
        "F53": Fault("A token ends in the middle, or clocks differ.", "It is renewed early; a 401 decides."),
        "F54": Fault("The Manager asks for a pause.", "Everybody keeps it, within limits."),
        "F55": Fault(
            "The outcome of a PUT is unknown.", "It is repeated only when that is safe; one request follows."
        ),
        "F56": Fault(
            "Something answers that is no Manager, or redirects.", "It is not believed, and no secret goes there."
        ),
    },
    "Workers": {
        "F57": Fault(
            "A worker dies in silence.", "Its lease ends: a build is given to another, a deploy is held."
        ),
        "F58": Fault("A worker answers twice.", "The first answer counts; the second is recorded."),
        "F59": Fault("A worker answers too late.", "Recorded, and without effect; the worker is told."),
        "F60": Fault("A cancel meets a milestone, wherever it is.", "It stops, or its result loses the race."),
        "F61": Fault("A worker is asked again for what it does or did.", "Its effect happens once."),
        "F62": Fault("A worker or a record is of another version or format.", "What is not known is passed over."),
    },
    "Time, versions and load": {
        "F63": Fault("Clocks differ or jump.", "Deadlines are set and judged by the clock of the database alone."),
        "F64": Fault(
            "Two orchestrators decide about one workflow.", "The first commit wins; the other decides anew."
        ),
        "F65": Fault(
            "Versions run side by side during an upgrade.", "Both work, or the older one refuses to start."
        ),
        "F66": Fault(
            "A hundred times the usual starts.",
            "Memory stays bounded; new starts wait while the outbox is far behind.",
        ),
    },
}

CATALOGUE = {number: fault for section in SECTIONS.values() for number, fault in section.items()}
