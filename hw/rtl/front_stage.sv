// The front stage of one core: fetch, length gathering, decoding, loops, predicates, tables, address generation, and dispatch
// into the queues of six units. docs/timing-model.md gives the cycle of everything; its parameters are the parameters here.
//
// `start` in cycle t begins at word `entry`; the first words are in the prefetch buffer in t + 1 + FETCH_LATENCY, which the
// timing model calls cycle 0. Unit i (code i + 1) takes `issue` of bits [i] in a cycle in which `issue_valid` and
// `issue_ready` are both high, and signals in `signals` the sets of what completes, in the cycle of the completion. The
// semaphores of this core count here; those of the group and the launch are in front_shared, as are their barriers.
module front_stage #(
  parameter int FETCH_WORDS = 1,
  parameter int FETCH_LATENCY = 1,
  parameter int PREFETCH_WORDS = 8,
  parameter int DECODE_CYCLES = 1,
  parameter int DISPATCH_CYCLES = 1,
  parameter int LOOP_CYCLES = 1,
  parameter int QUEUE_DEPTH = 4,
  parameter int SCALAR_CYCLES = 1,
  parameter int SCALAR_LOAD_CYCLES = 1,
  parameter int START_CYCLES = 0,
  parameter int BARRIER_CYCLES = 0,
  parameter int SET_TO_VISIBLE = 1
) (
  input  logic clk,
  input  logic rst,
  input  logic start,
  input  logic [31:0] entry,
  input  logic [31:0] program_words,
  // Instruction memory, see front_fetch.
  output logic fetch_request,
  output logic [31:0] fetch_address,
  input  logic [64*FETCH_WORDS-1:0] fetch_data,
  // The core's tiles of the phase that is asked for.
  output logic [4:0] phase,
  input  logic phase_valid,
  input  logic [63:0] tile_start,
  input  logic [63:0] tile_stop,
  // Scalar loads: the value is taken in the last cycle of the request.
  output logic scalar_request,
  output logic scalar_taken,
  output logic [63:0] scalar_address,
  input  logic [31:0] scalar_data,
  // Units.
  output logic dispatched,                // into a queue, at the end of this cycle
  output logic [2:0] dispatched_unit,
  output logic [front_pkg::DISPATCH_BITS-1:0] dispatch,
  output logic [5:0] issue_valid,
  input  logic [5:0] issue_ready,
  output logic [6*front_pkg::DISPATCH_BITS-1:0] issue,
  input  logic [5:0] completed,           // the unit has nothing under way
  input  logic [6*front_pkg::OWN*front_pkg::SIGNAL_BITS-1:0] signals,
  // Shared semaphores: group above core, launch above group.
  input  logic [front_pkg::SHARED-1:0] shared_one,
  input  logic [front_pkg::SHARED-1:0] shared_two,
  output logic [35:0] take0,
  output logic [35:0] take1,
  output logic [1:0] semaphore_set,
  output logic [11:0] semaphore_number,   // + 1
  output logic [15:0] semaphore_count,
  // Barriers of the group and the launch.
  output logic group_arrive,
  output logic launch_arrive,
  input  logic group_go,
  input  logic launch_go,
  output logic finished,
  output logic starved,                   // decoding had no word: fetch is too slow for it
  output logic [3:0] fault,
  output logic [31:0] pc
);
  import front_pkg::*;

  localparam int PACKET = DISPATCH_BITS;

  // Fetch, gather, decode.
  wire redirect, pop, fetched, advance, complete, retire;
  wire [31:0] target;
  wire [63:0] head;
  wire [511:0] words;
  wire [31:0] remaining = program_words - pc;
  wire [3:0] avail = remaining > 32'd8 ? 4'd8 : remaining[3:0];

  front_fetch #(
    .FETCH_WORDS(FETCH_WORDS), .FETCH_LATENCY(FETCH_LATENCY), .PREFETCH_WORDS(PREFETCH_WORDS)
  ) u_fetch (
    .clk(clk), .rst(rst), .redirect(redirect), .target(target), .pop(pop), .head(head), .valid(fetched),
    .request(fetch_request), .address(fetch_address), .data(fetch_data)
  );

  wire [2:0] word_class, unit, pred;
  wire [3:0] length;
  wire [7:0] opcode, mask;
  wire [5:0] wait0, wait1, set0, set1;
  wire order;
  wire [7:0] tile0, tile1, tile2, tile3;
  wire [3:0] tile_valid;
  wire [5:0] size0, size1, size2;
  wire [2:0] size_valid;
  wire [1:0] op_scope, op_role;
  wire [2:0] op_loop, op_loop_a, op_loop_b, op_space, op_row_loop, op_col_loop;
  wire [5:0] op_trip, op_t0, op_t1, op_t2, op_t3, op_t4, op_t5, op_t6, op_t7, op_size, op_ready, op_free, op_sem;
  wire [3:0] op_loops, op_reg, op_ring, op_rd, op_ra, op_rb;
  wire [31:0] op_full, op_tail, op_step_a, op_step_b, op_pitch, op_reg_stride, op_row0, op_col0, op_rows, op_cols;
  wire [31:0] op_row_step, op_col_step, op_slot_bytes;
  wire [47:0] op_base, op_stride, op_imm;
  wire [7:0] op_desc, op_slots;
  wire [6:0] op_value;

  front_gather #(.DECODE_CYCLES(DECODE_CYCLES)) u_gather (
    .clk(clk), .rst(rst), .flush(redirect), .advance(advance), .retire(retire), .head(head), .length(length),
    .words(words), .last(complete), .pop(pop)
  );

  // Operands that only units read are decoded again by them, from the words.
  /* verilator lint_off PINCONNECTEMPTY */
  npu_decoder u_decoder (
    .words(words), .avail(avail), .word_class(word_class), .length(length), .opcode(opcode), .unit(unit),
    .dtype_valid(), .dtype2_valid(), .dtype(), .dtype2(),
    .wait0(wait0), .wait1(wait1), .set0(set0), .set1(set1), .pred(pred), .mask(mask), .order(order),
    .tile0(tile0), .tile1(tile1), .tile2(tile2), .tile3(tile3), .tile_valid(tile_valid),
    .size0(size0), .size1(size1), .size2(size2), .size_valid(size_valid),
    .op_scope(op_scope), .op_loop(op_loop), .op_trip(op_trip), .op_loops(op_loops), .op_phase(phase),
    .op_t0(op_t0), .op_t1(op_t1), .op_t2(op_t2), .op_t3(op_t3), .op_t4(op_t4), .op_t5(op_t5), .op_t6(op_t6),
    .op_t7(op_t7), .op_size(op_size), .op_full(op_full), .op_tail(op_tail), .op_loop_a(op_loop_a),
    .op_loop_b(op_loop_b), .op_base(op_base), .op_step_a(op_step_a), .op_step_b(op_step_b), .op_reg(op_reg),
    .op_desc(op_desc), .op_space(op_space), .op_role(op_role), .op_ring(op_ring), .op_pitch(op_pitch),
    .op_reg_stride(op_reg_stride), .op_stride(op_stride), .op_row0(op_row0), .op_col0(op_col0), .op_rows(op_rows),
    .op_cols(op_cols), .op_row_step(op_row_step), .op_col_step(op_col_step), .op_row_loop(op_row_loop),
    .op_col_loop(op_col_loop), .op_slot_bytes(op_slot_bytes), .op_slots(op_slots), .op_ready(op_ready),
    .op_free(op_free), .op_sem(op_sem), .op_value(op_value), .op_rd(op_rd), .op_imm(op_imm), .op_ra(op_ra),
    .op_rb(op_rb),
    .op_src(), .op_unit(), .op_dst(), .op_cache(), .op_pad(), .op_a(), .op_b(), .op_m(), .op_n(), .op_k(), .op_act(),
    .op_c(), .op_index(), .op_count(), .op_layout(), .op_start(), .op_height(), .op_span(), .op_width(), .op_apart(),
    .op_channels(), .op_kernel_h(), .op_kernel_w(), .op_stride_h(), .op_stride_w(), .op_dilation_h(), .op_dilation_w(),
    .op_left(), .op_step()
  );
  /* verilator lint_on PINCONNECTEMPTY */

  // Loops and predicates.
  wire enter_loop, enter_grid, close, nested, innermost_grid, again, in_grid, first_tile, last_tile, on;
  wire [31:0] loop_target;
  wire [255:0] counters;
  wire [7:0] open, zero, last, changed, changes;
  wire [255:0] size_value;

  front_loops u_loops (
    .clk(clk), .rst(rst), .enter_loop(enter_loop), .enter_grid(enter_grid), .close(close), .loop(op_loop),
    .trip(size_value[31:0]), .body(pc + {28'd0, length}), .count(op_loops), .grid_trips(size_value), .start(tile_start),
    .stop(tile_stop), .counters(counters), .open(open), .zero(zero), .last(last), .nested(nested),
    .innermost_grid(innermost_grid), .again(again), .target(loop_target), .in_grid(in_grid), .first_tile(first_tile),
    .last_tile(last_tile), .changed(changed), .changes(changes)
  );

  front_predicate u_predicate (
    .kind(pred), .mask(mask), .zero(zero), .last(last), .in_grid(in_grid), .first_tile(first_tile),
    .last_tile(last_tile), .changed(changed), .changes(changes), .on(on)
  );

  // Sizes: of a unit's instruction, or the trip counts of a loop or a grid; the decoder gives 0 for what is not there.
  wire set_up;
  wire [7:0] size_varies, size_unanchored, size_defined;
  wire [1:0] size_kind = opcode == npu_isa_pkg::OP_SZT ? SIZE_TAIL : opcode == npu_isa_pkg::OP_SZA ? SIZE_AFFINE
      : opcode == npu_isa_pkg::OP_SZR ? SIZE_REGISTER : SIZE_CONST;
  // In the order of size_t.
  wire [SIZE_BITS-1:0] size_entry = {size_kind, op_loop_a | op_loop, op_loop_b, op_reg, op_full, op_base[31:0] | op_tail,
                                     op_step_a, op_step_b};

  wire defines_size = set_up & ((opcode == npu_isa_pkg::OP_SZC) | (opcode == npu_isa_pkg::OP_SZT)
      | (opcode == npu_isa_pkg::OP_SZA) | (opcode == npu_isa_pkg::OP_SZR));
  wire [1023:0] registers;

  front_sizes u_sizes (
    .clk(clk), .rst(rst), .define(defines_size), .index(op_size), .entry(size_entry),
    .read_index({op_t7, op_t6, op_t5, op_t4, op_t3, op_t2 | size2, op_t1 | size1, op_t0 | op_trip | size0}),
    .counters(counters), .last(last), .open(open), .registers(registers),
    .value(size_value), .varies(size_varies), .unanchored(size_unanchored), .defined(size_defined)
  );

  // A grid's tiles.
  wire is_grid = opcode == npu_isa_pkg::OP_GRID;
  wire is_loop = opcode == npu_isa_pkg::OP_LOOP;
  wire [7:0] sizes_used = is_grid ? ~(8'hff << op_loops) : is_loop ? 8'd1 : {5'd0, size_valid};

  function automatic logic [63:0] product(input logic [255:0] trips, input logic [7:0] used);
    product = 64'd1;
    for (int l = 0; l < 8; l++) if (used[l]) product = product * {32'd0, trips[32*l+:32]};
  endfunction

  wire [63:0] tiles = is_grid ? product(size_value, sizes_used) : 64'd0;
  wire grid_outside = ~phase_valid | (tile_start > tile_stop) | (tile_stop > tiles);
  wire trip_zero = is_grid ? tile_start == tile_stop : size_value[31:0] == 32'd0;

  // Registers.
  wire calculate, load, divides_by_zero;

  front_registers u_registers (
    .clk(clk), .rst(rst), .calculate(calculate), .load(load), .opcode(opcode), .rd(op_rd), .ra(op_ra), .rb(op_rb),
    .immediate(op_imm), .loaded(scalar_data), .registers(registers), .divides_by_zero(divides_by_zero)
  );

  // Rings, descriptors, addresses.
  wire [15:0] tile_ring;
  wire [7:0] tile_role;
  wire [2:0] tile_space;
  wire [159:0] slot_offset;
  wire [3:0] ring_defined, tile_defined;
  wire index_defined, index_global;
  wire defines_ring = set_up & (opcode == npu_isa_pkg::OP_RING);

  front_rings u_rings (
    .clk(clk), .rst(rst), .define(defines_ring), .index(op_ring), .slot_bytes(op_slot_bytes), .slots(op_slots),
    .ready(op_ready), .free(op_free), .advance(dispatched), .set0(set0), .set1(set1), .read_ring(tile_ring),
    .read_role(tile_role), .offset(slot_offset), .defined(ring_defined)
  );

  // In the order of descriptor_t and window_t.
  wire [DESCRIPTOR_BITS-1:0] descriptor = {op_space, op_role, op_ring, op_reg, op_base, op_pitch, op_reg_stride};
  wire [WINDOW_BITS-1:0] window = {op_row0, op_col0, op_rows, op_cols, op_row_step, op_col_step, op_row_loop, op_col_loop};
  wire [255:0] address;
  wire [127:0] pitch;
  wire [31:0] row, col;
  wire [63:0] extent;

  front_descriptors u_descriptors (
    .clk(clk), .rst(rst),
    .define(set_up & (opcode == npu_isa_pkg::OP_DESC)), .add_stride(set_up & (opcode == npu_isa_pkg::OP_DSTR)),
    .set_window(set_up & (opcode == npu_isa_pkg::OP_DWIN)), .index(op_desc), .descriptor(descriptor),
    .stride_loop(op_loop), .stride(op_stride), .window(window),
    .read_index({tile3, tile2, tile1, tile0}), .read_valid(tile_valid), .counters(counters), .registers(registers),
    .slot_offset(slot_offset), .index_defined(index_defined), .index_global(index_global), .ring(tile_ring),
    .role(tile_role), .space(tile_space), .address(address), .pitch(pitch), .row(row), .col(col), .extent(extent),
    .defined(tile_defined)
  );

  wire amends = (opcode == npu_isa_pkg::OP_DSTR) | (opcode == npu_isa_pkg::OP_DWIN);
  wire table_missing = (|(sizes_used & ~size_defined)) | ~(&tile_defined) | ~(&ring_defined)
      | (amends & ~index_defined);
  wire not_global = (opcode == npu_isa_pkg::OP_DWIN) & ~index_global;

  // What the unit gets.
  wire [95:0] size_mask = {{32{size_valid[2]}}, {32{size_valid[1]}}, {32{size_valid[0]}}};
  // In the order of dispatch_t.
  assign dispatch = {pc, words[191:0], address, pitch, row, col, extent, size_value[95:0] & size_mask, wait0, wait1, set0,
                     set1, order};
  assign dispatched_unit = unit;

  // Queues.
  wire dispatching;
  wire [5:0] chosen, queue_ready, queue_empty;
  wire ready = |(chosen & queue_ready);
  wire [OWN-1:0] own_one, own_two;

  assign dispatched = dispatching & ready;

  for (genvar i = 0; i < 6; i++) begin : g_unit
    wire [PACKET-1:0] packet;
    wire [5:0] taken0, taken1;
    assign chosen[i] = unit == i + 3'd1;

    front_queue #(.DEPTH(QUEUE_DEPTH)) u_queue (
      .clk(clk), .rst(rst), .push_valid(dispatching & chosen[i]), .push_ready(queue_ready[i]), .push(dispatch),
      .one({shared_one, own_one}), .two({shared_two, own_two}), .issue_valid(issue_valid[i]),
      .issue_ready(issue_ready[i]), .issue(packet), .completed(completed[i]),
      .take0(taken0), .take1(taken1), .empty(queue_empty[i])
    );
  end

  assign issue = {g_unit[5].packet, g_unit[4].packet, g_unit[3].packet, g_unit[2].packet, g_unit[1].packet,
                  g_unit[0].packet};
  assign take0 = {g_unit[5].taken0, g_unit[4].taken0, g_unit[3].taken0, g_unit[2].taken0, g_unit[1].taken0,
                  g_unit[0].taken0};
  assign take1 = {g_unit[5].taken1, g_unit[4].taken1, g_unit[3].taken1, g_unit[2].taken1, g_unit[1].taken1,
                  g_unit[0].taken1};

  // Semaphores: `sem` sets one, `ring` its two.
  assign semaphore_set = {defines_ring, defines_ring | (set_up & (opcode == npu_isa_pkg::OP_SEM))};
  assign semaphore_number = {op_free + 6'd1, (op_sem | op_ready) + 6'd1};
  assign semaphore_count = {op_slots, 1'b0, op_value};

  front_semaphores #(
    .FIRST(0), .COUNT(OWN), .CLIENTS(6), .SETTERS(2), .DELAY(SET_TO_VISIBLE)
  ) u_semaphores (
    .clk(clk), .rst(rst), .signals(signals), .take0(take0), .take1(take1), .set(semaphore_set),
    .set_number(semaphore_number), .set_count(semaphore_count), .one(own_one), .two(own_two)
  );

  // Barriers.
  wire arrive, core_go;
  wire [1:0] arrive_scope;
  wire quiet = (&queue_empty) & (&completed);
  wire go = arrive_scope == SCOPE_GROUP ? group_go : arrive_scope == SCOPE_LAUNCH ? launch_go : core_go;
  wire core_arrive = arrive & (arrive_scope == SCOPE_CORE);
  assign group_arrive = arrive & (arrive_scope == SCOPE_GROUP);
  assign launch_arrive = arrive & (arrive_scope == SCOPE_LAUNCH);

  front_rendezvous #(.CORES(1), .CYCLES(BARRIER_CYCLES)) u_barrier (
    .clk(clk), .rst(rst), .members(1'b1), .arrive(core_arrive), .go(core_go)
  );

  wire silent = (wait0 | wait1 | set0 | set1) == 6'd0 & ~order;
  wire conditional = pred != npu_isa_pkg::PRED_ALWAYS;

  front_control #(
    .START_CYCLES(START_CYCLES + FETCH_LATENCY), .DISPATCH_CYCLES(DISPATCH_CYCLES), .LOOP_CYCLES(LOOP_CYCLES),
    .SCALAR_CYCLES(SCALAR_CYCLES), .SCALAR_LOAD_CYCLES(SCALAR_LOAD_CYCLES)
  ) u_control (
    .clk(clk), .rst(rst), .start(start), .entry(entry), .advance(advance), .fetched(fetched), .complete(complete),
    .word_class(word_class), .length(length), .opcode(opcode), .unit(unit), .scope(op_scope),
    .plain(silent & ~conditional), .silent(silent), .on(on),
    .loops_missing((conditional & (|(mask & ~open))) | (|({5'd0, size_valid} & size_unanchored))), .loop_taken(open[op_loop]),
    .table_missing(table_missing), .grid_varies(|(sizes_used & size_varies)), .grid_outside(grid_outside),
    .trip_zero(trip_zero), .divides_by_zero(divides_by_zero),
    .plain_global((tile_space == npu_isa_pkg::SPACE_GM) & (tile_role[1:0] == 2'd0)), .not_global(not_global),
    .nested(nested), .innermost_grid(innermost_grid), .again(again), .loop_target(loop_target),
    .enter_loop(enter_loop), .enter_grid(enter_grid), .close(close), .redirect(redirect), .target(target),
    .retire(retire), .set_up(set_up), .calculate(calculate), .load(load), .load_request(scalar_request),
    .dispatch(dispatching), .ready(ready), .quiet(quiet), .arrive(arrive), .arrive_scope(arrive_scope), .go(go),
    .starved(starved), .finished(finished), .fault(fault), .pc(pc)
  );

  assign scalar_taken = load;
  assign scalar_address = address[63:0];
endmodule : front_stage
