"""What a store is asked to do while it is recorded.

Small on purpose: a crash is tried after every single step.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from prove.scene import Scene

Workload = Callable[[Scene], None]

BIG = 20_000
SMALL = 700


def birth(scene: Scene) -> None:
    """A store is made, closed, opened again."""
    scene.open()
    scene.close()
    scene.open()


def puts(scene: Scene) -> None:
    """New blobs with a name, without one, with an unknown length; an empty one; a second time."""
    first = scene.body(BIG)
    scene.put(first, "first.txt")
    scene.put(scene.body(SMALL))
    scene.put(scene.body(3 * BIG), "third", announced=False)
    scene.put(b"", "empty")
    scene.put(first, "second-name.txt")
    scene.put(first)


def names(scene: Scene) -> None:
    """Names are added, the same one twice."""
    digest = scene.put(scene.body(SMALL))
    for name in ("one", "two", "one"):
        scene.name(digest, name)


def deletes(scene: Scene) -> None:
    """What is here goes, what was never here is blocked, what is gone goes once more."""
    digest = scene.put(scene.body(BIG), "gone")
    scene.delete(digest)
    scene.delete(digest)
    scene.delete(scene.ledger.body(scene.body(30)))


def returns(scene: Scene) -> None:
    """A blob is deleted and stored again, under another name, twice."""
    body = scene.body(SMALL)
    for name in ("a", "b", None):
        digest = scene.put(body, name)
        scene.delete(digest)
    scene.put(body, "d")


def loads(scene: Scene) -> None:
    """A load is begun, its process dies, another one goes on and finishes."""
    body = scene.body(BIG)
    scene.load(body, upto=7000)
    scene.kill()
    scene.load(body, upto=13_000)
    scene.close()
    scene.load(body, "loaded")
    scene.load(scene.body(SMALL), "at once")
    other = scene.body(SMALL)
    scene.load(other, upto=300)
    scene.load(other, "anew", fresh=True)


def deleted_load(scene: Scene) -> None:
    """A blob is deleted while it is loaded; the load must not bring it back, a PUT does."""
    body = scene.body(BIG)
    digest = scene.load(body, upto=9000)
    partial = scene.store.partial(digest)
    scene.delete(digest)
    partial.close()
    scene.load(body)
    scene.put(body, "put")
    scene.delete(digest)
    scene.load(body, "again")


def everywhere(scene: Scene) -> None:
    """Deletions everywhere, revivals, and what other nodes tell of both."""
    body = scene.body(SMALL)
    digest = scene.put(body, "first")
    scene.everywhere(digest)
    scene.put(body, "back")
    scene.hear(digest, 5, deleted=True)
    scene.load(body)
    scene.hear(digest, 6, deleted=False)
    scene.load(body, "loaded")
    scene.everywhere(digest)
    scene.everywhere(digest)
    other = scene.body(SMALL)
    digest = scene.put(other)
    scene.delete(digest)
    scene.everywhere(digest)
    scene.kill()
    scene.put(other, "back as well")
    scene.hear(scene.ledger.body(scene.body(30)), 3, deleted=True)


def groups(scene: Scene) -> None:
    """Groups of small blobs, more than a log holds; one group is settled before its time."""
    for number in range(8):
        scene.small(*((scene.body(3000), f"{number}-{each}") for each in range(4)))
        if number == 2:
            scene.together.settle()
    again = scene.body(100)
    scene.small((again, None), (scene.body(0), "nothing"), (again, "twice"))
    scene.small((again, "thrice"))
    scene.close()
    scene.open()


def deleted_groups(scene: Scene) -> None:
    """Blobs of a group are deleted, renamed and stored again while only the log has them."""
    bodies = [scene.body(SMALL) for _ in range(4)]
    scene.small(*((body, "log") for body in bodies))
    digests = [scene.ledger.body(body) for body in bodies]
    scene.delete(digests[0])
    scene.name(digests[1], "later")
    scene.delete(digests[2])
    scene.put(bodies[2], "back")
    scene.small((bodies[0], "small again"), (bodies[3], "same"))
    scene.together.settle()
    scene.delete(digests[1])
    scene.small((scene.body(SMALL), None))
    scene.kill()
    scene.open()
    scene.delete(digests[3])


def second_life(scene: Scene) -> None:
    """The process is killed with a group in its log; the next one replays it and goes on."""
    for _ in range(2):
        body = scene.body(SMALL)
        scene.small((body, "kept"), (scene.body(SMALL), None))
        scene.delete(scene.ledger.body(body))
        scene.small((scene.body(50), "last"))
        scene.put(scene.body(BIG), "by the door")
        scene.kill()
        scene.open()


def uploads(scene: Scene) -> None:
    """Uploads in parts, with checksums right and wrong; processes die in between."""
    first = scene.upload(scene.body(BIG), "first", 8000, 8000, BIG)
    scene.finish(first)
    second = scene.upload(scene.body(BIG), "second", 7000, 12_000, BIG, BIG, right=(True, False))
    scene.kill()
    scene.open()
    scene.finish(second)
    scene.upload(scene.body(SMALL), "never", 300)
    given_up = scene.upload(scene.body(SMALL), "given up", 100)
    scene.give_up(given_up)


def crowd(scene: Scene) -> None:
    """Three threads at once, one of them deletes what another one stores."""
    shared = [scene.body(SMALL) for _ in range(2)]
    bodies = [scene.body(900) for _ in range(6)]
    digests = [scene.ledger.body(body) for body in shared]
    scene.begin_groups()

    def by_the_door() -> None:
        for number, body in enumerate((*shared, *bodies[:2])):
            scene.put(body, f"door-{number}")

    def together() -> None:
        for body in bodies[2:]:
            scene.small((body, "small"), (scene.body(60), None))

    def away() -> None:
        for digest in digests:
            scene.delete(digest)
        scene.load(scene.body(BIG), "loaded")

    with ThreadPoolExecutor(3) as pool:
        for running in [pool.submit(work) for work in (by_the_door, together, away)]:
            running.result()


WORKLOADS: dict[str, Workload] = {
    work.__name__.replace("_", " "): work
    for work in (
        *(birth, puts, names, deletes, returns, loads, deleted_load, groups, deleted_groups),
        *(second_life, crowd, everywhere, uploads),
    )
}
