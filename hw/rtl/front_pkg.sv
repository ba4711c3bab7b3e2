// What the modules of the front stage share: faults, entries of its tables, the instruction as it is handed to a unit.
//
// The number of bits of each structure stands beside it, because Icarus cannot take $bits of it in the header of a module.
package front_pkg;
  /* verilator lint_off UNUSEDPARAM */
  localparam int SEMAPHORES = npu_isa_pkg::LIMIT_SEMAPHORES;
  localparam int OWN = npu_isa_pkg::SEMAPHORES_CORE_LAST + 1;      // of a core, the first ones
  localparam int SHARED = SEMAPHORES - OWN;                        // of the group, then of the launch

  // Completions of one unit that may signal the same semaphore in one cycle are counted in so many bits.
  localparam int SIGNAL_BITS = 8;

  // Why a core stopped for good.
  localparam logic [3:0] FAULT_NONE = 4'd0;
  localparam logic [3:0] FAULT_WORD = 4'd1;        // not a legal instruction
  localparam logic [3:0] FAULT_SYNC = 4'd2;        // predicate, semaphore or order bit where none is allowed
  localparam logic [3:0] FAULT_NESTING = 4'd3;     // an end without its beginning, a grid in a loop, set-up in a loop
  localparam logic [3:0] FAULT_LOOP = 4'd4;        // a loop number that is open already, or needed and not open
  localparam logic [3:0] FAULT_UNDEFINED = 4'd5;   // a size, descriptor or ring that was never set
  localparam logic [3:0] FAULT_RANGE = 4'd6;       // the core's tiles do not lie within the grid
  localparam logic [3:0] FAULT_VARYING = 4'd7;     // a grid whose trip counts depend on counters: not built
  localparam logic [3:0] FAULT_DIVIDE = 4'd8;      // scalar division by zero
  localparam logic [3:0] FAULT_ADDRESS = 4'd9;     // a scalar load or a window of what is not plain global memory

  // Scopes of barriers and semaphores by their code.
  localparam logic [1:0] SCOPE_CORE = 2'd0;
  localparam logic [1:0] SCOPE_GROUP = 2'd1;
  localparam logic [1:0] SCOPE_LAUNCH = 2'd2;

  // An entry of the size table. `base` is also the tail of a tail size.
  localparam logic [1:0] SIZE_CONST = 2'd0;
  localparam logic [1:0] SIZE_TAIL = 2'd1;
  localparam logic [1:0] SIZE_AFFINE = 2'd2;
  localparam logic [1:0] SIZE_REGISTER = 2'd3;
  typedef struct packed {
    logic [1:0]  kind;
    logic [2:0]  loop_a;
    logic [2:0]  loop_b;
    logic [3:0]  reg_index;
    logic [31:0] full;
    logic [31:0] base;
    logic [31:0] step_a;
    logic [31:0] step_b;
  } size_t;
  localparam int SIZE_BITS = 2 + 2 * 3 + 4 + 4 * 32;

  // A descriptor without its strides and its window.
  localparam logic [1:0] ROLE_PRODUCER = 2'd1;
  localparam logic [1:0] ROLE_CONSUMER = 2'd2;
  typedef struct packed {
    logic [2:0]  space;
    logic [1:0]  role;
    logic [3:0]  ring;
    logic [3:0]  reg_index;
    logic [47:0] base;
    logic [31:0] pitch;
    logic [31:0] reg_stride;
  } descriptor_t;
  localparam int DESCRIPTOR_BITS = 3 + 2 + 2 * 4 + 48 + 2 * 32;

  typedef struct packed {
    logic [31:0] row0;
    logic [31:0] col0;
    logic [31:0] rows;
    logic [31:0] cols;
    logic [31:0] row_step;
    logic [31:0] col_step;
    logic [2:0]  row_loop;
    logic [2:0]  col_loop;
  } window_t;
  localparam int WINDOW_BITS = 6 * 32 + 2 * 3;

  // An instruction in a unit's queue. Tile i has its address at [64*i +: 64] and its pitch at [32*i +: 32]; size i is at
  // [32*i +: 32]. `row` and `col` are the tile's first element in the window of its windowed operand, `extent` is that
  // window (columns above rows). `words` are the head and the first two operand words, for what else the unit reads.
  typedef struct packed {
    logic [31:0]  pc;
    logic [191:0] words;
    logic [255:0] address;
    logic [127:0] pitch;
    logic [31:0]  row;
    logic [31:0]  col;
    logic [63:0]  extent;
    logic [95:0]  size;
    logic [5:0]   wait0;
    logic [5:0]   wait1;
    logic [5:0]   set0;
    logic [5:0]   set1;
    logic         order;
  } dispatch_t;
  localparam int DISPATCH_BITS = 32 + 192 + 256 + 128 + 2 * 32 + 64 + 96 + 4 * 6 + 1;
endpackage : front_pkg
