# Two cores: the first stores y = 2 x and signals through the launch, the second adds 1 to it; behind a barrier of the launch the first
# adds what the second has stored to x.
.args 4
.entry unified first
.entry unified second
first:
szc size=s0 full=1
szc size=s1 full=16
sem sem=m0 value=0
sem sem=m1 value=0
sem sem=m52 value=0
barrier scope=launch
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=gm base=@arg1
desc desc=d2 space=gm base=@arg2
desc desc=d3 space=gm base=@arg3
desc desc=d4 space=ub base=0x0
desc desc=d5 space=ub base=0x40
desc desc=d6 space=ub base=0x80
ld.int32 dst=d4 src=d0 rows=s0 cols=s1 | set m0
vadd.int32 dst=d5 a=d4 b=d4 rows=s0 cols=s1 | wait m0 set m1
st.int32 dst=d1 src=d5 rows=s0 cols=s1 | wait m1 set m52
barrier scope=launch
ld.int32 dst=d5 src=d2 rows=s0 cols=s1 | set m0
vadd.int32 dst=d6 a=d4 b=d5 rows=s0 cols=s1 | wait m0 set m1
st.int32 dst=d3 src=d6 rows=s0 cols=s1 | wait m1
halt
second:
szc size=s0 full=1
szc size=s1 full=16
sem sem=m0 value=0
sem sem=m1 value=0
barrier scope=launch
desc desc=d1 space=gm base=@arg1
desc desc=d2 space=gm base=@arg2
desc desc=d4 space=ub base=0x0
desc desc=d5 space=ub base=0x40
ld.int32 dst=d4 src=d1 rows=s0 cols=s1 | wait m52 set m0
vadds.int32 dst=d5 a=d4 rows=s0 cols=s1 imm=1 | wait m0 set m1
st.int32 dst=d2 src=d5 rows=s0 cols=s1 | wait m1
barrier scope=launch
halt
