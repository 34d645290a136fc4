#!/usr/bin/python3
"""The loop of common backup tools: one thread reads what has changed by libnbd, packs it with lz4 and writes a file.

libnbd-loop.py SOCKET EXPORT CONTEXT OUT     OUT: a file, or nbd+unix:… for an NBD export (not packed then)
CONTEXT: qemu:dirty-bitmap:NAME, or base:allocation for all data
"""
import os
import sys

import lz4.frame
import nbd

MIB = 1 << 20
socket, export, context, out = sys.argv[1:]

source = nbd.NBD()
source.add_meta_context(context)
source.set_export_name(export)
source.connect_unix(socket)

extents = []


def collect(metacontext, offset, entries, error):
    for length, flags in zip(entries[0::2], entries[1::2]):
        wanted = flags & 1 if context.startswith("qemu:") else not flags & 1
        if wanted:
            extents.append((offset, length))
        offset += length
    return 0


size = source.get_size()
position = 0
while position < size:
    reach = [position]

    def advance(metacontext, offset, entries, error):
        collect(metacontext, offset, entries, error)
        reach[0] = offset + sum(entries[0::2])
        return 0

    source.block_status(min(size - position, 1 << 30), position, advance)
    position = reach[0]

sent = 0
if out.startswith("nbd"):
    target = nbd.NBD()
    target.connect_uri(out)
    for start, length in extents:
        for at in range(start, start + length, MIB):
            data = source.pread(min(MIB, start + length - at), at)
            target.pwrite(data, at)
            sent += len(data)
    target.flush()
    target.shutdown()
else:
    with open(out, "wb") as file:
        for start, length in extents:
            for at in range(start, start + length, MIB):
                packed = lz4.frame.compress(bytes(source.pread(min(MIB, start + length - at), at)))
                file.write(at.to_bytes(8, "little") + len(packed).to_bytes(8, "little"))
                file.write(packed)
                sent += len(packed)
        file.flush()
        os.fdatasync(file.fileno())
source.shutdown()
print(sent)
