# Semaphores that count: three loads before anyone takes a signal, two waits and two sets in a head, a store that needs two signals of
# one semaphore one after the other, and a count that starts above 0.
.args 2
.entry unified 0
szc size=s0 full=1
szc size=s1 full=16
sem sem=m0 value=0
sem sem=m1 value=0
sem sem=m2 value=0
sem sem=m3 value=2
sem sem=m4 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=gm base=@arg0+64
desc desc=d2 space=gm base=@arg0+128
desc desc=d3 space=ub base=0x0
desc desc=d4 space=ub base=0x40
desc desc=d5 space=ub base=0x80
desc desc=d6 space=ub base=0xc0
desc desc=d7 space=ub base=0x100
desc desc=d8 space=gm base=@arg1
desc desc=d9 space=gm base=@arg1+64
ld.int32 dst=d3 src=d0 rows=s0 cols=s1 | wait m3 set m0
ld.int32 dst=d4 src=d1 rows=s0 cols=s1 | wait m3 set m0 m1
ld.int32 dst=d5 src=d2 rows=s0 cols=s1 | set m0
usync unit=vector | wait m0 m1
usync unit=vector | wait m0
vsub.int32 dst=d6 a=d3 b=d4 rows=s0 cols=s1 | set m2 m4
vmul.int32 dst=d7 a=d6 b=d5 rows=s0 cols=s1 | wait m0 set m2 order
usync unit=store | wait m2
usync unit=store | wait m2 m4
st.int32 dst=d8 src=d6 rows=s0 cols=s1
st.int32 dst=d9 src=d7 rows=s0 cols=s1
halt
