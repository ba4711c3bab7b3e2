# Every predicate over no loop at all, in tiles 1 to 3 of a grid of 5: a marker where it is on.
.args 2
.entry unified 0 1:4
szc size=s0 full=5
szc size=s1 full=1
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
desc desc=d2 space=gm base=@arg1+0
dstr desc=d2 loop=l0 stride=1
desc desc=d3 space=gm base=@arg1+5
dstr desc=d3 loop=l0 stride=1
desc desc=d4 space=gm base=@arg1+10
dstr desc=d4 loop=l0 stride=1
desc desc=d5 space=gm base=@arg1+15
dstr desc=d5 loop=l0 stride=1
desc desc=d6 space=gm base=@arg1+20
dstr desc=d6 loop=l0 stride=1
desc desc=d7 space=gm base=@arg1+25
dstr desc=d7 loop=l0 stride=1
ld.int8 dst=d1 src=d0 rows=s1 cols=s1 | set m0
usync unit=store | wait m0
grid loops=1 phase=0 t0=s0
  st.int8 dst=d2 src=d1 rows=s1 cols=s1 | if first()
  st.int8 dst=d3 src=d1 rows=s1 cols=s1 | if last()
  st.int8 dst=d4 src=d1 rows=s1 cols=s1 | if not_first()
  st.int8 dst=d5 src=d1 rows=s1 cols=s1 | if not_last()
  st.int8 dst=d6 src=d1 rows=s1 cols=s1 | if changed()
  st.int8 dst=d7 src=d1 rows=s1 cols=s1 | if changes()
endgrid
halt
