"""The steps of one round, by the order in which devices work.

* Parallel: K steps of all devices at the same time, then the adapters are put together.
* Sequential: one device after another in the instance's order; each gets the adapters of its
  blocks, takes K steps alone with the server, and returns them: N K steps of the server a round.
* Federated: K steps of every device on the whole model, then adapters and heads are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sftopt.core.plan import Order
from sftopt.training.split import SplitModel, StepReport
from sftopt.training.split.parts import Batch

UpdatesAt = Callable[[int], bool]
"""Says of a local step, from 1, whether it ends with an update."""
BeginStep = Callable[[int, int], None]
"""Called before each step with its number in the round, from 0, and the steps of a whole round."""


def steps_of_round(
    model: SplitModel,
    present: Sequence[str],
    back: Sequence[str],
    local_steps: int,
    batch_of: Callable[[str], Batch],
    begin: BeginStep,
    updates_at: UpdatesAt = lambda step: True,
) -> Iterator[StepReport]:
    """Take a whole round, with the exchange of adapters; yield the report of every step.

    ``present`` take part, in the order of the split's devices; ``back`` are those of them that
    missed the round before.
    """
    if model.config.order is Order.SEQUENTIAL:
        yield from _turns(model, present, local_steps, batch_of, begin, updates_at)
        return
    for name in back:
        model.rejoin(name)
    for step in range(local_steps):
        begin(step, local_steps)
        batches = {name: batch_of(name) for name in present}
        yield model.train_step(batches, update=updates_at(step + 1))
    model.average(present)


def _turns(
    model: SplitModel,
    present: Sequence[str],
    local_steps: int,
    batch_of: Callable[[str], Batch],
    begin: BeginStep,
    updates_at: UpdatesAt,
) -> Iterator[StepReport]:
    """Steps are numbered by device, so that who is absent does not move the learning rate."""
    for place, name in enumerate(model.devices):
        if name not in present:
            continue
        with model.turn(name):
            for step in range(local_steps):
                begin(place * local_steps + step, len(model.devices) * local_steps)
                yield model.train_step({name: batch_of(name)}, update=updates_at(step + 1))
    model.end_of_turns()
