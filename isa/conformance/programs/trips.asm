# Loops of all kinds of trip counts, among them none: every iteration stores a marker at [kind, outer, inner].
.args 3
.entry unified 0 0:5 2:2
li rd=r0 imm=3
li rd=r1 imm=0
li rd=r2 imm=-4
li rd=r3 imm=9
szc size=s0 full=5
szc size=s1 full=1
szc size=s2 full=0
szc size=s3 full=4
szt size=s4 loop=l0 full=3 tail=1
sza size=s5 loop_a=l0 full=4 base=-1 step_a=1
sza size=s6 loop_a=l0 full=4 base=6 step_a=-3
szr size=s7 reg=r0 full=8
szr size=s8 reg=r1 full=8
szr size=s9 reg=r2 full=8
szr size=s10 reg=r3 full=7
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
ld.int8 dst=d1 src=d0 rows=s1 cols=s1 | set m0
usync unit=store | wait m0
desc desc=d2 space=gm base=@arg1+0
dstr desc=d2 loop=l0 stride=8
dstr desc=d2 loop=l1 stride=1
desc desc=d3 space=gm base=@arg1+40
dstr desc=d3 loop=l0 stride=8
dstr desc=d3 loop=l1 stride=1
desc desc=d4 space=gm base=@arg1+80
dstr desc=d4 loop=l0 stride=8
dstr desc=d4 loop=l1 stride=1
desc desc=d5 space=gm base=@arg1+120
dstr desc=d5 loop=l0 stride=8
dstr desc=d5 loop=l1 stride=1
desc desc=d6 space=gm base=@arg1+160
dstr desc=d6 loop=l0 stride=8
dstr desc=d6 loop=l1 stride=1
desc desc=d7 space=gm base=@arg1+200
dstr desc=d7 loop=l0 stride=8
dstr desc=d7 loop=l1 stride=1
desc desc=d8 space=gm base=@arg1+240
dstr desc=d8 loop=l0 stride=8
dstr desc=d8 loop=l1 stride=1
desc desc=d9 space=gm base=@arg1+280
dstr desc=d9 loop=l0 stride=8
dstr desc=d9 loop=l1 stride=1
grid loops=1 phase=0 t0=s0
  loop loop=l1 trip=s3
    st.int8 dst=d2 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s2
    st.int8 dst=d3 src=d1 rows=s1 cols=s1
    loop loop=l2 trip=s3
      st.int8 dst=d3 src=d1 rows=s1 cols=s1
    endloop
  endloop
  loop loop=l1 trip=s4
    st.int8 dst=d4 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s5
    st.int8 dst=d5 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s6
    st.int8 dst=d6 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s7
    st.int8 dst=d7 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s8
    st.int8 dst=d8 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s9
    st.int8 dst=d8 src=d1 rows=s1 cols=s1
  endloop
  loop loop=l1 trip=s10
    st.int8 dst=d9 src=d1 rows=s1 cols=s1
  endloop
endgrid
# A range without a tile, and a grid with a trip count that follows an outer counter.
sza size=s11 loop_a=l0 full=4 base=1 step_a=1
desc desc=d2 space=gm base=@arg2
dstr desc=d2 loop=l0 stride=8
dstr desc=d2 loop=l1 stride=1
grid loops=2 phase=1 t0=s3 t1=s11
  st.int8 dst=d2 src=d1 rows=s1 cols=s1
endgrid
halt
