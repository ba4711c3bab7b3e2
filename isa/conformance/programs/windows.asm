# A window that moves with two loops: tiles of 4 x 5 around every 3 x 4 elements of a tensor of 10 x 12, 9 outside of it. They are stored
# one behind the other, and once more through a window, which leaves the tensor itself.
.args 3
.entry unified 0 0:16
szc size=s0 full=4
szc size=s1 full=5
ring ring=g0 slot_bytes=128 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg0-56 pitch=48
dstr desc=d0 loop=l0 stride=144
dstr desc=d0 loop=l1 stride=16
dwin desc=d0 row0=-1 col0=-2 rows=10 cols=12 row_step=3 col_step=4 row_loop=l0 col_loop=l1
desc desc=d1 space=ub role=producer ring=g0 base=0x0 pitch=32
desc desc=d2 space=ub role=consumer ring=g0 base=0x0 pitch=32
desc desc=d3 space=gm base=@arg1 pitch=20
dstr desc=d3 loop=l0 stride=320
dstr desc=d3 loop=l1 stride=80
desc desc=d4 space=gm base=@arg2-56 pitch=48
dstr desc=d4 loop=l0 stride=144
dstr desc=d4 loop=l1 stride=16
dwin desc=d4 row0=-1 col0=-2 rows=10 cols=12 row_step=3 col_step=4 row_loop=l0 col_loop=l1
grid loops=2 phase=0 t0=s0 t1=s0
  ld.int32 dst=d1 src=d0 rows=s0 cols=s1 pad=9 | wait m1 set m0
  st.int32 dst=d3 src=d2 rows=s0 cols=s1 | wait m0
  st.int32 dst=d4 src=d2 rows=s0 cols=s1 | set m1
endgrid
halt
