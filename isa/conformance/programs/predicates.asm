# Which tiles each predicate switches on: a marker is stored at [predicate, tile, iteration] when it does. Tiles 3 to 20 of a grid
# of 2 x 3 x 4, and a loop of 3 inside.
.args 2
.entry unified 0 3:20
szc size=s0 full=2
szc size=s1 full=3
szc size=s2 full=4
szc size=s3 full=1
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
desc desc=d2 space=gm base=@arg1+0
dstr desc=d2 loop=l0 stride=36
dstr desc=d2 loop=l1 stride=12
dstr desc=d2 loop=l2 stride=3
dstr desc=d2 loop=l3 stride=1
desc desc=d3 space=gm base=@arg1+72
dstr desc=d3 loop=l0 stride=36
dstr desc=d3 loop=l1 stride=12
dstr desc=d3 loop=l2 stride=3
dstr desc=d3 loop=l3 stride=1
desc desc=d4 space=gm base=@arg1+144
dstr desc=d4 loop=l0 stride=36
dstr desc=d4 loop=l1 stride=12
dstr desc=d4 loop=l2 stride=3
dstr desc=d4 loop=l3 stride=1
desc desc=d5 space=gm base=@arg1+216
dstr desc=d5 loop=l0 stride=36
dstr desc=d5 loop=l1 stride=12
dstr desc=d5 loop=l2 stride=3
dstr desc=d5 loop=l3 stride=1
desc desc=d6 space=gm base=@arg1+288
dstr desc=d6 loop=l0 stride=36
dstr desc=d6 loop=l1 stride=12
dstr desc=d6 loop=l2 stride=3
dstr desc=d6 loop=l3 stride=1
desc desc=d7 space=gm base=@arg1+360
dstr desc=d7 loop=l0 stride=36
dstr desc=d7 loop=l1 stride=12
dstr desc=d7 loop=l2 stride=3
dstr desc=d7 loop=l3 stride=1
desc desc=d8 space=gm base=@arg1+432
dstr desc=d8 loop=l0 stride=36
dstr desc=d8 loop=l1 stride=12
dstr desc=d8 loop=l2 stride=3
dstr desc=d8 loop=l3 stride=1
desc desc=d9 space=gm base=@arg1+504
dstr desc=d9 loop=l0 stride=36
dstr desc=d9 loop=l1 stride=12
dstr desc=d9 loop=l2 stride=3
dstr desc=d9 loop=l3 stride=1
desc desc=d10 space=gm base=@arg1+576
dstr desc=d10 loop=l0 stride=36
dstr desc=d10 loop=l1 stride=12
dstr desc=d10 loop=l2 stride=3
dstr desc=d10 loop=l3 stride=1
ld.int8 dst=d1 src=d0 rows=s3 cols=s3 | set m0
usync unit=store | wait m0
grid loops=3 phase=0 t0=s0 t1=s1 t2=s2
  loop loop=l3 trip=s1
    st.int8 dst=d2 src=d1 rows=s3 cols=s3
    st.int8 dst=d3 src=d1 rows=s3 cols=s3 | if first(l2)
    st.int8 dst=d4 src=d1 rows=s3 cols=s3 | if last(l1,l3)
    st.int8 dst=d5 src=d1 rows=s3 cols=s3 | if not_first(l0,l3)
    st.int8 dst=d6 src=d1 rows=s3 cols=s3 | if not_last(l2)
    st.int8 dst=d7 src=d1 rows=s3 cols=s3 | if changed(l1)
    st.int8 dst=d8 src=d1 rows=s3 cols=s3 | if changed(l0,l2)
    st.int8 dst=d9 src=d1 rows=s3 cols=s3 | if changes(l1)
    st.int8 dst=d10 src=d1 rows=s3 cols=s3 | if changes(l0)
  endloop
endgrid
halt
