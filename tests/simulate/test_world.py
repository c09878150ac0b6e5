"""The false clock."""

from __future__ import annotations

from types import SimpleNamespace

from simulate.world import World


def test_what_is_due_at_once_happens_in_the_order_in_which_it_was_asked_for() -> None:
    world, seen = World("1"), list[int]()
    for number in range(5):
        world.after(1.0, seen.append, number)
    world.pass_time(1.0)
    assert seen == [0, 1, 2, 3, 4]


def test_nothing_happens_on_a_machine_that_has_died() -> None:
    world, seen = World("1"), list[str]()
    machine = SimpleNamespace(alive=True, offset=0.0)
    world.after(1.0, seen.append, "machine", owner=machine)
    world.after(1.0, seen.append, "world")
    machine.alive = False
    world.pass_time(2.0)
    assert seen == ["world"]


def test_a_call_that_was_put_off_happens_once_and_later() -> None:
    world, seen = World("1"), list[float]()
    call = world.after(1.0, lambda: seen.append(world.now))
    call.reset(3.0)
    world.pass_time(5.0)
    assert seen == [3.0]


def test_a_call_that_was_cancelled_does_not_happen() -> None:
    world, seen = World("1"), list[str]()
    world.after(1.0, seen.append, "it").cancel()
    world.pass_time(2.0)
    assert seen == []
