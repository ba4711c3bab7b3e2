# A size that follows two loops: max(0, min(6, 2 + 3 i - 2 j)) ones are stored at [i, j].
.args 2
.entry unified 0
szc size=s0 full=4
szc size=s1 full=1
szc size=s2 full=8
sza size=s3 loop_a=l0 loop_b=l1 full=6 base=2 step_a=3 step_b=-2
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
desc desc=d2 space=gm base=@arg1
dstr desc=d2 loop=l0 stride=32
dstr desc=d2 loop=l1 stride=8
ld.int8 dst=d1 src=d0 rows=s1 cols=s2 | set m0
usync unit=store | wait m0
loop loop=l0 trip=s0
  loop loop=l1 trip=s0
    st.int8 dst=d2 src=d1 rows=s1 cols=s3
  endloop
endloop
halt
