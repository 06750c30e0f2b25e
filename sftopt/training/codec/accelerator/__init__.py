"""The codecs' arithmetic for tensors on a GPU: everything stays there up to the entropy coder.

Selection, quantisation, the turn into a basis and their inverses run where the tensor is. The host
sees integers (mask bits, positions, symbols, group scales) and per-channel moments, each kind in
one transfer a tensor; down go the entropy coder's symbols and, for stochastic rounding, the noise,
which the host draws so that a seed means the same payload on any device. Every step is an operation
of its own on 32-bit numbers, rounded as on the host: ``topk`` and ``quantise`` give the host's
payload to the byte (``centre`` apart: its means are summed in another order). ``ecsq`` and
``rotated`` also sum in another order, so that a value on the edge between two levels may fall to
the other side.
"""
