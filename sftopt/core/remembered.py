"""What was computed of an object that does not change, kept for the next call while it lives."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import ref

from sftopt.core.derived import Derived, derive
from sftopt.core.instance import Instance
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE

Value = TypeVar("Value")

LAST = 8
"""Instances of which something is remembered."""


class Remembered(Generic[Value]):
    """Values by owner and key, the last few of them; a value goes with its owner.

    Owners are told apart by identity, so a copy has values of its own. They must not change, and
    neither may anybody change the values.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[ref[object], Value]] = OrderedDict()
        self._lock = threading.RLock()  # an owner may end, and call back, at any step

    def of(self, owner: object, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of ``owner`` under ``key``; ``make`` it where there is none."""
        place = (id(owner), key)
        with self._lock:
            found = self._kept.get(place)
            if found is not None and found[0]() is owner:
                self._kept.move_to_end(place)
                return found[1]
        value = make()
        with self._lock:
            self._kept[place] = (ref(owner, lambda gone: self._forget(place, gone)), value)
            self._kept.move_to_end(place)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def __len__(self) -> int:
        """Return the number of values that are kept."""
        return len(self._kept)

    def _forget(self, place: Hashable, gone: ref[object]) -> None:
        """Drop what was kept for an owner that ended, unless its place has a new one."""
        with self._lock:
            found = self._kept.get(place)
            if found is not None and found[0] is gone:
                del self._kept[place]


class RememberedByKey(Generic[Value]):
    """Values by a key that says all they depend on, the last few of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value under ``key``; ``make`` it where there is none. For readers alone."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def __len__(self) -> int:
        """Return the number of values that are kept."""
        return len(self._kept)


_DERIVED: Remembered[Derived] = Remembered(LAST)
"""Arrays of the instances that were derived last."""


def derived_once(instance: Instance, feas_tol: float = FEASIBILITY_TOLERANCE) -> Derived:
    """Return what :func:`~sftopt.core.derived.derive` does, computed once for each instance.

    For readers: nobody may write into these arrays.
    """
    return _DERIVED.of(instance, feas_tol, lambda: derive(instance, feas_tol=feas_tol))
