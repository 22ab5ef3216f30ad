"""How often Python looks for garbage: cycles of objects, which reference counts do not free."""

import gc

THRESHOLD = 20_000
"""After how many new objects a collection begins: about as many as 100 requests in progress have.
Python's default is 700."""


def make_collections_rare() -> None:
    """Exempt what exists by now, which stays, from garbage collection, and collect less often.

    Modules, descriptors and handlers are over 100,000 objects. Under load each full collection
    looked at all of them, while nothing else ran: for 50 to 100 ms, more often than once a second.
    Requests leave hardly any garbage: collections find little but requests in progress.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
