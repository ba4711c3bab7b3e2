"""Where the compiled engine keeps what: offsets into flat arrays of integers.

Arrays and lists are indexed alike, so the kernels of this package are written once for numba and for plain Python. All state
lies in a few flat stores: `W` (cores, units, queues, semaphores, calendars), `M` (memory system), `SITE` (static sites),
`COL` (columns of the streams in work), `TOK` (signals on their way), `SLOT`, `LOG`, `DIR`, `PAGE` (L2, see `lines`).
A record in a store begins at a base offset; the names below are its fields.
"""

from __future__ import annotations

from typing import TypeAlias

Store: TypeAlias = list[int]
"""A flat store of integers; for numba it is an array, which is indexed alike."""

INF = 1 << 62
"""A cycle that never comes."""

KEY_BITS = 23
"""Low bits of a calendar's key: unit (core * 8 + code), and in the calendar of takes a bit that puts resets first."""

MOST_CYCLES = 1 << 38
"""A launch that takes longer is given up: a calendar's key would not fit 64 bits."""

TAKE = 1 << 22
"""The bit of a take in a key of the second calendar."""

UNITS = 8
"""Places for units in a core; place 0 is the sequencer's, and codes of the instruction set count from it."""

# Results of a kernel.
OK, INPUT, GROW_TOKENS, GROW_LINES, TWO_CONSUMERS = range(5)

# Head of W: offsets of its parts, and numbers of the launch.
(
    H_CORES,
    H_CORE,
    H_UNIT,
    H_DEPTH,
    H_SEM,
    H_SEM_OF,
    H_NUMBERS,
    H_MEET,
    H_STALL,
    H_STACK,
    H_STACKED,
    H_TREE,
    H_LEAVES,
    H_TAKES,
    H_TAKE_LEAVES,
    H_LIMIT,
    H_SCALAR,
    H_INPUTS,
    H_COLUMN,
    H_WINDOW,
    H_ARG0,
    H_ARG1,
    H_SIZE,
) = range(23)

# A core and its sequencer. C_RECORD is the base of its records, C_AT the next of them, C_FILLED how many there are.
(
    C_STATE,
    C_CLOCK,
    C_SIM,
    C_ROW,
    C_END,
    C_SITE,
    C_SYNC,
    C_QUEUED,
    C_FULL,
    C_OUT,
    C_TODO,
    C_STACKED,
    C_GRANT,
    C_FINISHED,
    C_DISPATCHED,
    C_DECODE,
    C_DRAIN,
    C_BARRIER,
    C_SCALAR,
    C_TEXT,
    C_TEXT_AT,
    C_RECORD,
    C_AT,
    C_FILLED,
) = range(24)
C_MEET = 24
"""Meeting points by scope."""

C_QUEUE_FULL = 27
"""Cycles at full queues by unit."""

C_STARTS, C_STARTS_MASK = 35, 36
"""The ring of the rows that the core's instructions pick by index, 0 for none, and its size less one."""

C_SIZE = 37

# States of a sequencer.
NEXT, STREAM, FULL, DRAINING, MEETING, RESETTING, WANTS_INPUT, LATE, FINISHED = range(9)

# What a sequencer's state is called in messages.
T_START, T_RUN, T_FULL, T_DRAIN, T_MEET = range(5)

# Records that a sequencer works off: kind, gap or number, value, pc.
R_STREAM, R_SPEND, R_SET, R_SCALAR, R_BARRIER, R_HALT = range(6)
R_SIZE, RECORDS = 4, 160

# A unit: its queue, its past, its stalls, its port, and the transfer in it.
(
    U_STATE,
    U_QUEUE,
    U_HEAD,
    U_COUNT,
    U_FREE,
    U_DONE,
    U_LAST,
    U_STARTED,
    U_SEM,
    U_GRANT,
    U_SYNC_SEEN,
    U_QUEUED_SEEN,
    U_BUSY,
    U_STARTUP,
    U_SYNC,
    U_QUEUED,
    U_DECODE,
    U_ORDERED,
    U_MEMORY,
    U_LEAF,
    U_PARTS,
    U_CHUNK,
    U_BURST,
    U_PLACES,
    U_PLACE_END,
    U_PLACE,
    U_PORT,
    U_PORT_PART,
    U_LAST_DONE,
    U_STALLED,
    U_T_START,
    U_T_LATENCY,
    U_T_SITE,
    U_T_ADDR,
    U_T_ROWS,
    U_T_BYTES,
    U_T_PITCH,
    U_T_AT,
    U_T_FIRST,
    U_T_WRITE,
    U_T_STREAM,
    U_T_BYTE,
    U_T_ROW,
    U_C_ROWS,
    U_C_BYTES,
    U_C_TIME,
    U_C_PART,
    U_C_SUM,
    U_CHARGED,
    U_TOGETHER,
    U_CYCLE,
    U_LOOKED,
    U_TIMED,
    U_KEPT,
    U_KEPT_DONE,
    U_PAGE,
    U_PAGE_BASE,
    U_T_INDEXED,
) = range(58)
U_SIZE = 64

# States of a unit.
READY, BLOCKED, PENDING, TRANSFER, ENDING, BEYOND = range(6)

# An instruction in a queue. Q_TIME is its dispatch, and once it has started, its start.
Q_TIME, Q_SITE, Q_OCCUPANCY, Q_LATENCY, Q_SYNC, Q_QUEUED, Q_SIM, Q_ADDR, Q_ROWS, Q_BYTES = range(10)
Q_SIZE = 10

# A semaphore. Its signals on their way are a ring in TOK; behind that, for a timed one, is a ring of who has signalled when, as
# far as nobody has waited past that.
S_BASE, S_MASK, S_HEAD, S_COUNT, S_SAID_HEAD, S_SAID, S_DELAY, S_TIMED, S_WAITER, S_OTHER, S_PRODUCER = range(11)
S_SIZE = 11

# A meeting point of a barrier.
B_MEMBERS, B_CYCLES, B_ARRIVED, B_LATEST = range(4)
B_SIZE = 4

# A static site.
(
    D_UNIT,
    D_ORDER,
    D_WAITS,
    D_WAIT0,
    D_WAIT1,
    D_SETS,
    D_SET0,
    D_SET1,
    D_BYTE,
    D_ROW,
    D_WRITE,
    D_STREAM,
    D_PITCH,
    D_INDEXED,
) = range(14)
D_SIZE = 16

# Columns of a stream in COL.
COLUMN_SITE, COLUMN_GAP, COLUMN_OCCUPANCY, COLUMN_LATENCY, COLUMN_ADDR, COLUMN_ROWS, COLUMN_BYTES = range(7)
COLUMNS = 7

# The memory system: numbers of the chip, counts of the launch, contents of L2, servers. A server is (cycle, part of a cycle).
(
    M_LINE,
    M_LINE_SHIFT,
    M_LINE_LEAST,
    M_CAPACITY,
    M_SLICES,
    M_SLICE_MASK,
    M_SLICE_UNITS,
    M_SLICE_BYTE,
    M_LINE_TIME,
    M_LINE_PART,
    M_PIECE_SUM,
    M_PIECE_TIME,
    M_PIECE_PART,
    M_L2_LATENCY,
    M_HBM_LATENCY,
    M_CHANNELS,
    M_CHANNEL_MASK,
    M_CHANNEL_UNITS,
    M_CHANNEL_BYTE,
    M_FETCH_TIME,
    M_FETCH_PART,
    M_BLOCK,
    M_BLOCK_SHIFT,
    M_HASH,
    M_ACCESS,
    M_APART,
    M_UNCACHED,
    M_BURST,
    M_ROW_SPAN,
    M_ROW_MISS,
    M_BANKS,
    M_TURN,
    M_SECTOR,
    M_SAME_LINE,
    M_SLICE,
    M_CHANNEL,
    M_OPEN,
    M_HIT_BYTES,
    M_REQUESTS,
    M_READ,
    M_WRITTEN,
    M_COMPULSORY,
    M_STREAMED,
    M_FIRST_WRITES,
    M_DIRTY,
    M_USED,
    M_FREED,
    M_EPOCH,
    M_PAGES,
    M_PAGE_LIMIT,
    M_SLOT_LIMIT,
    M_DIR_MASK,
    M_PAGE_AT,
    M_PAGE_BASE,
    M_LOG_HEAD,
    M_LOG_END,
    M_LOG_LIMIT,
    M_LOG_START,
    M_MARGIN,
    M_HINTS,
    M_ROOM,
    M_SIZE,
) = range(62)

SLICE_FIELDS = 2
# A channel: cycle, part, direction of its last access (0 none, 1 read, 2 write); line and core + 1 of its last for a core.
CHANNEL_FIELDS = 5

# A slot of L2 in SLOT: its line (of a freed slot: the one freed before it), the place in LOG of its last use (-1: freed), the
# cycle from which its data are there, and marks. Cycle, core and LEFT are of this launch if the place is not before
# M_LOG_START.
L_LINE, L_USED, L_READY, L_MARKS, L_SIZE = range(5)

# Marks of a line in a slot; above them is the core of the last access + 1, 0 for none.
DIRTY = 1
LEFT = 2
"""The line had left L2 in this launch before."""

CORE_SHIFT = 2

PAGE_BITS = 9
"""A page of the table from lines to slots holds 2 ** PAGE_BITS lines."""

EMPTY = -(1 << 62)
"""A place in the directory of pages that is not taken."""

UNKNOWN = -1
"""A line that was never in L2, in the table from lines to slots; -2 - launch says that it left L2 in that launch."""
