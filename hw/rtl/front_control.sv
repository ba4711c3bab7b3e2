// Control of the front stage: what each decoded instruction does, and in which cycle.
//
// One instruction at a time. `complete` is the last decode cycle; `extra` cycles follow it: address generation for an
// instruction of a unit, the step of a loop, the calculation or load of a scalar. Everything takes effect at the end of the
// decoding, but a dispatch at the end of address generation (or later, while the queue is full) and a scalar load at its end.
module front_control #(
  parameter int START_CYCLES = 0,       // from the start to the first decode, the fetch included
  parameter int DISPATCH_CYCLES = 1,
  parameter int LOOP_CYCLES = 1,
  parameter int SCALAR_CYCLES = 1,
  parameter int SCALAR_LOAD_CYCLES = 1
) (
  input  logic clk,
  input  logic rst,
  input  logic start,
  input  logic [31:0] entry,
  // The instruction.
  output logic advance,
  input  logic fetched,
  input  logic complete,
  input  logic [2:0] word_class,
  input  logic [3:0] length,
  input  logic [7:0] opcode,
  input  logic [2:0] unit,
  input  logic [1:0] scope,
  input  logic plain,                   // no predicate, no semaphores, no order bit
  input  logic silent,                  // no semaphores, no order bit
  input  logic on,                      // its predicate is
  // Faults that the tables find, of what the instruction names.
  input  logic loops_missing,           // of a predicate or a tail: not open
  input  logic loop_taken,              // `loop`, but its number is open
  input  logic table_missing,           // a size, descriptor or ring
  input  logic grid_varies,
  input  logic grid_outside,
  input  logic trip_zero,               // of a loop; of a grid: no tile
  input  logic divides_by_zero,
  input  logic plain_global,            // the descriptor of a scalar load is
  input  logic not_global,              // the descriptor of a window is elsewhere
  // Loops.
  input  logic nested,
  input  logic innermost_grid,
  input  logic again,
  input  logic [31:0] loop_target,
  output logic enter_loop,
  output logic enter_grid,
  output logic close,
  // Effects.
  output logic redirect,
  output logic [31:0] target,
  output logic retire,
  output logic set_up,
  output logic calculate,
  output logic load,
  output logic load_request,            // `load_address` of a scalar load holds
  output logic dispatch,                // into the queue of the unit, when it is ready
  input  logic ready,
  // Barriers and the end.
  input  logic quiet,                   // every dispatched instruction has completed
  output logic arrive,
  output logic [1:0] arrive_scope,
  input  logic go,
  output logic starved,
  output logic finished,
  output logic [3:0] fault,
  output logic [31:0] pc
);
  import npu_isa_pkg::*;

  localparam logic [3:0] IDLE = 4'd0;
  localparam logic [3:0] START = 4'd1;
  localparam logic [3:0] DECODE = 4'd2;
  localparam logic [3:0] EXTRA = 4'd3;      // cycles after the decoding of what has retired
  localparam logic [3:0] ADDRESS = 4'd4;    // address generation
  localparam logic [3:0] LOAD = 4'd5;       // a scalar load
  localparam logic [3:0] FULL = 4'd6;       // the queue is
  localparam logic [3:0] DRAIN = 4'd7;      // for a barrier
  localparam logic [3:0] MEET = 4'd8;
  localparam logic [3:0] LEAVE = 4'd9;      // draining for halt
  localparam logic [3:0] STOPPED = 4'd10;

  logic [3:0] state;
  logic [31:0] left;
  logic [31:0] skipping;                    // loops open in what is passed over
  logic [1:0] scope_held;

  // Kinds of instructions.
  wire is_loop = opcode == OP_LOOP;
  wire is_grid = opcode == OP_GRID;
  wire is_endloop = opcode == OP_ENDLOOP;
  wire is_endgrid = opcode == OP_ENDGRID;
  wire is_barrier = opcode == OP_BARRIER;
  wire is_halt = opcode == OP_HALT;
  wire is_load = opcode == OP_LDS;
  wire is_branch = is_loop | is_grid | is_endloop | is_endgrid;
  wire is_calculation = (opcode == OP_LI) | (opcode == OP_SADD) | (opcode == OP_SSUB) | (opcode == OP_SMUL)
      | (opcode == OP_SCDIV) | (opcode == OP_SMIN) | (opcode == OP_SLT);
  wire is_set_up = (opcode == OP_SZC) | (opcode == OP_SZT) | (opcode == OP_SZA) | (opcode == OP_SZR) | (opcode == OP_DESC)
      | (opcode == OP_DSTR) | (opcode == OP_DWIN) | (opcode == OP_RING) | (opcode == OP_SEM);
  wire of_unit = unit != UNIT_SEQ;
  wire legal = word_class == CLASS_LEGAL;
  wire passing = skipping != 32'd0;

  // What is wrong with it, the first of these.
  wire wrong_sync = (is_branch | is_barrier | is_halt | is_set_up) ? ~plain : ~of_unit & ~silent;
  wire wrong_end = (is_endloop & (~nested | innermost_grid)) | (is_endgrid & ~innermost_grid);
  wire wrong_place = (is_set_up | is_barrier | is_halt | is_grid) & nested;
  wire acts = on & (of_unit | is_load | is_calculation);
  wire [3:0] wrong = ~legal ? front_pkg::FAULT_WORD
      : passing ? front_pkg::FAULT_NONE
      : wrong_sync ? front_pkg::FAULT_SYNC
      : (wrong_end | wrong_place) ? front_pkg::FAULT_NESTING
      : (loops_missing | (is_loop & loop_taken)) ? front_pkg::FAULT_LOOP
      : table_missing ? front_pkg::FAULT_UNDEFINED
      : (is_grid & grid_varies) ? front_pkg::FAULT_VARYING
      : (is_grid & grid_outside) ? front_pkg::FAULT_RANGE
      : ((acts & is_load & ~plain_global) | not_global) ? front_pkg::FAULT_ADDRESS
      : (acts & divides_by_zero) ? front_pkg::FAULT_DIVIDE : front_pkg::FAULT_NONE;

  // The cycle after a barrier may be the one of the last arrival itself.
  wire goes_on = ((state == DRAIN) | (state == MEET)) & go;
  wire decoding = (state == DECODE) | goes_on;
  assign advance = decoding & fetched;
  assign starved = decoding & ~fetched;

  wire sound = complete & (wrong == front_pkg::FAULT_NONE);
  wire does = sound & ~passing;
  wire dispatches = does & of_unit & on;
  wire loads = does & is_load & on;
  wire calculates = does & is_calculation & on;
  wire branches = does & is_branch;
  wire opens = does & (is_loop | is_grid);
  wire [31:0] extra = dispatches ? DISPATCH_CYCLES : loads ? SCALAR_LOAD_CYCLES
      : branches ? LOOP_CYCLES : calculates ? SCALAR_CYCLES : 32'd0;
  wire counted = left == 32'd1;
  wire dispatched = dispatch & ready;

  assign dispatch = (dispatches & (extra == 32'd0)) | ((state == ADDRESS) & counted) | (state == FULL);
  assign load = (loads & (extra == 32'd0)) | ((state == LOAD) & counted);
  assign load_request = loads | (state == LOAD);
  assign retire = (sound & ~dispatches & ~loads) | dispatched | load;

  assign set_up = does & is_set_up;
  assign calculate = calculates;
  assign enter_loop = does & is_loop & ~trip_zero;
  assign enter_grid = does & is_grid & ~trip_zero;
  assign close = does & (is_endloop | is_endgrid);
  assign redirect = start | (close & again);
  assign target = start ? entry : loop_target;

  assign arrive = (state == DRAIN) & quiet;
  assign arrive_scope = scope_held;
  assign finished = (state == LEAVE) & quiet;

  always_ff @(posedge clk) begin
    if (rst) begin
      state <= IDLE;
      left <= 32'd0;
      skipping <= 32'd0;
      scope_held <= 2'd0;
      fault <= front_pkg::FAULT_NONE;
      pc <= 32'd0;
    end else begin
      left <= left - 32'd1;
      if (redirect) pc <= target;
      else if (retire) pc <= pc + {28'd0, length};

      if (state == IDLE) begin
        if (start) state <= START;
        left <= START_CYCLES;
      end
      if ((state == START) | (state == EXTRA)) if (counted) state <= DECODE;
      if (load | dispatched) state <= DECODE;
      else if (dispatch) state <= FULL;
      if (arrive & ~go) state <= MEET;
      if (finished) state <= STOPPED;

      if (decoding) begin
        if (~complete) begin
          state <= DECODE;
        end else if (wrong != front_pkg::FAULT_NONE) begin
          state <= STOPPED;
          fault <= wrong;
        end else begin
          if (passing) begin
            if (is_loop | is_grid) skipping <= skipping + 32'd1;
            else if (is_endloop | is_endgrid) skipping <= skipping - 32'd1;
          end else if (opens & trip_zero) begin
            skipping <= 32'd1;
          end
          left <= extra;
          scope_held <= scope;
          if (does & is_barrier) state <= DRAIN;
          else if (does & is_halt) state <= LEAVE;
          else if (dispatches & (extra != 32'd0)) state <= ADDRESS;
          else if (loads & (extra != 32'd0)) state <= LOAD;
          else if (extra != 32'd0) state <= EXTRA;
          else if (~dispatches) state <= DECODE;
        end
      end
    end
  end
endmodule : front_control
