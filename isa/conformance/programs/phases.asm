# Two phases with a barrier between them: y = relu(x), then z = x + y, int32, 8 x 16; the semaphores serve both.
.args 3
.entry unified 0
szc size=s0 full=8
szc size=s1 full=16
sem sem=m0 value=0
sem sem=m1 value=0
sem sem=m2 value=0
desc desc=d0 space=gm base=@arg0 pitch=64
desc desc=d1 space=gm base=@arg1 pitch=64
desc desc=d2 space=gm base=@arg2 pitch=64
desc desc=d3 space=ub base=0x0 pitch=64
desc desc=d4 space=ub base=0x200 pitch=64
desc desc=d5 space=ub base=0x400 pitch=64
ld.int32 dst=d3 src=d0 rows=s0 cols=s1 | set m0
vrelu.int32 dst=d4 a=d3 rows=s0 cols=s1 | wait m0 set m1
st.int32 dst=d1 src=d4 rows=s0 cols=s1 | wait m1
barrier scope=core
sem sem=m1 value=0
ld.int32 dst=d3 src=d0 rows=s0 cols=s1
ld.int32 dst=d4 src=d1 rows=s0 cols=s1 | set m0
vadd.int32 dst=d5 a=d3 b=d4 rows=s0 cols=s1 | wait m0 set m1
st.int32 dst=d2 src=d5 rows=s0 cols=s1 | wait m1
halt
