# Eight loops in each other: the marker of an iteration lies at its counters.
.args 2
.entry unified 0
szc size=s0 full=2
szc size=s1 full=1
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
desc desc=d2 space=gm base=@arg1
dstr desc=d2 loop=l0 stride=1
dstr desc=d2 loop=l1 stride=2
dstr desc=d2 loop=l2 stride=4
dstr desc=d2 loop=l3 stride=8
dstr desc=d2 loop=l4 stride=16
dstr desc=d2 loop=l5 stride=32
dstr desc=d2 loop=l6 stride=64
dstr desc=d2 loop=l7 stride=128
ld.int8 dst=d1 src=d0 rows=s1 cols=s1 | set m0
usync unit=store | wait m0
loop loop=l7 trip=s0
  loop loop=l6 trip=s0
    loop loop=l5 trip=s0
      loop loop=l4 trip=s0
        loop loop=l3 trip=s0
          loop loop=l2 trip=s0
            loop loop=l1 trip=s0
              loop loop=l0 trip=s0
                st.int8 dst=d2 src=d1 rows=s1 cols=s1 | if not_last(l0,l7)
              endloop
            endloop
          endloop
        endloop
      endloop
    endloop
  endloop
endloop
halt
