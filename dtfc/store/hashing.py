"""Places for those who hash: no more at once than leave a processor for the loop.

Hashing needs neither the disk nor the interpreter's lock, so sixteen uploads
would take every processor there is, and the loop would wait for one like the
rest (74 ms were seen, on two). A trip to the disk waits here instead, and loses
nothing: there was no processor for it either.

The places are a process's: each worker leaves one to its own loop.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

#: How many threads of this process may hash at a time.
PLACES = max(1, (os.cpu_count() or 1) - 1)

#: Held by whoever hashes more than a few KiB.
place = threading.BoundedSemaphore(PLACES)

#: Takes the SHA-512 of what comes in, while the next block is written: it takes longer
#: than the rest together.
pool = ThreadPoolExecutor(PLACES, thread_name_prefix="sha512")
