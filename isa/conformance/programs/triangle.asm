# A grid whose inner trip count follows the outer counter: tiles 2 to 9 of the ten (i, j) with j <= i < 4, last one fastest; each
# stores a marker, and addresses go down with i.
.args 2
.entry unified 0 2:9
szc size=s0 full=4
sza size=s1 loop_a=l0 full=4 base=1 step_a=1
szc size=s2 full=1
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
desc desc=d2 space=gm base=@arg1+24
dstr desc=d2 loop=l0 stride=-8
dstr desc=d2 loop=l1 stride=1
ld.int8 dst=d1 src=d0 rows=s2 cols=s2 | set m0
usync unit=store | wait m0
grid loops=2 phase=0 t0=s0 t1=s1
  st.int8 dst=d2 src=d1 rows=s2 cols=s2
endgrid
halt
