"""What a device is sent once, before the first round: the bases of its codec."""

from __future__ import annotations

from sftopt.training.codec import Codec
from sftopt.training.codec.basis_file import basis_name, load_bases
from sftopt.training.codec.container import Direction
from sftopt.training.split import MessageKind, SplitModel
from sftopt.training.split.boundary import BoundaryCodec, pack


def send_bases(model: SplitModel) -> dict[str, int]:
    """Send each device the bases its codec needs; return their size in bytes by device.

    Those of its own cut, one for each direction, where the codec is told the cut; else all of the
    file. A device whose codec turns into no basis is sent nothing.
    """
    sent = {}
    for name, device in model.devices.items():
        payload = bases_message(device.codec)
        if payload:
            channel = model.channels[name]
            channel.server.send(MessageKind.BASES, payload)
            sent[name] = len(channel.device.receive(MessageKind.BASES))
    return sent


def bases_message(codec: BoundaryCodec) -> bytes:
    """Write the matrices that a codec turns a boundary into; empty where it has none.

    Raises InputError for a file of bases that cannot be read.
    """
    options = codec.config.to_dict() if isinstance(codec, Codec) else {}
    if not options.get("bases"):
        return b""
    held, cut = load_bases(str(options["bases"])), options.get("cut")
    names = held.names if cut is None else [basis_name(which, cut) for which in Direction]
    return pack({name: held.stored(held.names.index(name)) for name in names})
