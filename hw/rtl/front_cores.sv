// The front stages of a launch: CORES cores in groups of GROUP_CORES, with the semaphores and barriers that they share.
//
// Cores that are not `active` take no part. Ports of core c are slice c of what front_stage has, per unit within it.
module front_cores #(
  parameter int CORES = 1,
  parameter int GROUP_CORES = 1,
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
  parameter int SET_TO_VISIBLE = 1,
  parameter int GROUP_CYCLES = 0,
  parameter int LAUNCH_CYCLES = 0
) (
  input  logic clk,
  input  logic rst,
  input  logic start,
  input  logic [CORES-1:0] active,
  input  logic [32*CORES-1:0] entry,
  input  logic [31:0] program_words,
  output logic [CORES-1:0] fetch_request,
  output logic [32*CORES-1:0] fetch_address,
  input  logic [64*FETCH_WORDS*CORES-1:0] fetch_data,
  output logic [5*CORES-1:0] phase,
  input  logic [CORES-1:0] phase_valid,
  input  logic [64*CORES-1:0] tile_start,
  input  logic [64*CORES-1:0] tile_stop,
  output logic [CORES-1:0] scalar_request,
  output logic [CORES-1:0] scalar_taken,
  output logic [64*CORES-1:0] scalar_address,
  input  logic [32*CORES-1:0] scalar_data,
  output logic [CORES-1:0] dispatched,
  output logic [3*CORES-1:0] dispatched_unit,
  output logic [front_pkg::DISPATCH_BITS*CORES-1:0] dispatch,
  output logic [6*CORES-1:0] issue_valid,
  input  logic [6*CORES-1:0] issue_ready,
  output logic [6*front_pkg::DISPATCH_BITS*CORES-1:0] issue,
  input  logic [6*CORES-1:0] completed,
  input  logic [6*front_pkg::SEMAPHORES*front_pkg::SIGNAL_BITS*CORES-1:0] signals,
  output logic [CORES-1:0] finished,
  output logic [CORES-1:0] starved,
  output logic [4*CORES-1:0] fault,
  output logic [32*CORES-1:0] pc
);
  localparam int PACKET = front_pkg::DISPATCH_BITS;
  localparam int WIDTH = front_pkg::SIGNAL_BITS;
  localparam int ALL = front_pkg::SEMAPHORES;
  localparam int GROUPS = (CORES + GROUP_CORES - 1) / GROUP_CORES;
  localparam int GROUP_FIRST = npu_isa_pkg::SEMAPHORES_GROUP_FIRST;
  localparam int GROUP_COUNT = npu_isa_pkg::SEMAPHORES_GROUP_LAST + 1 - GROUP_FIRST;
  localparam int LAUNCH_FIRST = npu_isa_pkg::SEMAPHORES_LAUNCH_FIRST;
  localparam int LAUNCH_COUNT = npu_isa_pkg::SEMAPHORES_LAUNCH_LAST + 1 - LAUNCH_FIRST;

  wire [GROUP_COUNT*GROUPS-1:0] group_one, group_two;
  wire [LAUNCH_COUNT-1:0] launch_one, launch_two;
  wire [36*CORES-1:0] take0, take1;
  wire [2*CORES-1:0] semaphore_set;
  wire [12*CORES-1:0] semaphore_number;
  wire [16*CORES-1:0] semaphore_count;
  wire [CORES-1:0] group_arrive, launch_arrive;
  wire [GROUPS-1:0] group_go;
  wire launch_go;
  wire [6*GROUP_COUNT*WIDTH*CORES-1:0] group_signals;
  wire [6*LAUNCH_COUNT*WIDTH*CORES-1:0] launch_signals;

  for (genvar c = 0; c < CORES; c++) begin : g_core
    localparam int G = c / GROUP_CORES;

    front_stage #(
      .FETCH_WORDS(FETCH_WORDS), .FETCH_LATENCY(FETCH_LATENCY), .PREFETCH_WORDS(PREFETCH_WORDS),
      .DECODE_CYCLES(DECODE_CYCLES), .DISPATCH_CYCLES(DISPATCH_CYCLES), .LOOP_CYCLES(LOOP_CYCLES),
      .QUEUE_DEPTH(QUEUE_DEPTH), .SCALAR_CYCLES(SCALAR_CYCLES), .SCALAR_LOAD_CYCLES(SCALAR_LOAD_CYCLES),
      .START_CYCLES(START_CYCLES), .BARRIER_CYCLES(BARRIER_CYCLES), .SET_TO_VISIBLE(SET_TO_VISIBLE)
    ) u_stage (
      .clk(clk), .rst(rst), .start(start & active[c]), .entry(entry[32*c+:32]), .program_words(program_words),
      .fetch_request(fetch_request[c]), .fetch_address(fetch_address[32*c+:32]),
      .fetch_data(fetch_data[64*FETCH_WORDS*c+:64*FETCH_WORDS]),
      .phase(phase[5*c+:5]), .phase_valid(phase_valid[c]), .tile_start(tile_start[64*c+:64]),
      .tile_stop(tile_stop[64*c+:64]),
      .scalar_request(scalar_request[c]), .scalar_taken(scalar_taken[c]), .scalar_address(scalar_address[64*c+:64]),
      .scalar_data(scalar_data[32*c+:32]),
      .dispatched(dispatched[c]), .dispatched_unit(dispatched_unit[3*c+:3]), .dispatch(dispatch[PACKET*c+:PACKET]),
      .issue_valid(issue_valid[6*c+:6]), .issue_ready(issue_ready[6*c+:6]), .issue(issue[6*PACKET*c+:6*PACKET]),
      .completed(completed[6*c+:6]), .signals(signals[6*ALL*WIDTH*c+:6*ALL*WIDTH]),
      .shared_one({launch_one, group_one[GROUP_COUNT*G+:GROUP_COUNT]}),
      .shared_two({launch_two, group_two[GROUP_COUNT*G+:GROUP_COUNT]}),
      .take0(take0[36*c+:36]), .take1(take1[36*c+:36]), .semaphore_set(semaphore_set[2*c+:2]),
      .semaphore_number(semaphore_number[12*c+:12]), .semaphore_count(semaphore_count[16*c+:16]),
      .group_arrive(group_arrive[c]), .launch_arrive(launch_arrive[c]), .group_go(group_go[G]), .launch_go(launch_go),
      .finished(finished[c]), .starved(starved[c]), .fault(fault[4*c+:4]), .pc(pc[32*c+:32])
    );

    for (genvar u = 0; u < 6; u++) begin : g_unit
      wire [ALL*WIDTH-1:0] of_unit = signals[ALL*WIDTH*(6*c+u)+:ALL*WIDTH];
      assign group_signals[GROUP_COUNT*WIDTH*(6*c+u)+:GROUP_COUNT*WIDTH] = of_unit[WIDTH*GROUP_FIRST+:WIDTH*GROUP_COUNT];
      assign launch_signals[LAUNCH_COUNT*WIDTH*(6*c+u)+:LAUNCH_COUNT*WIDTH] = of_unit[WIDTH*LAUNCH_FIRST+:WIDTH*LAUNCH_COUNT];
    end
  end

  for (genvar g = 0; g < GROUPS; g++) begin : g_group
    localparam int FIRST = g * GROUP_CORES;
    localparam int MEMBERS = FIRST + GROUP_CORES <= CORES ? GROUP_CORES : CORES - FIRST;

    front_semaphores #(
      .FIRST(GROUP_FIRST), .COUNT(GROUP_COUNT), .CLIENTS(6 * MEMBERS), .SETTERS(2 * MEMBERS),
      .DELAY(SET_TO_VISIBLE + GROUP_CYCLES)
    ) u_semaphores (
      .clk(clk), .rst(rst), .signals(group_signals[6*GROUP_COUNT*WIDTH*FIRST+:6*GROUP_COUNT*WIDTH*MEMBERS]),
      .take0(take0[36*FIRST+:36*MEMBERS]), .take1(take1[36*FIRST+:36*MEMBERS]),
      .set(semaphore_set[2*FIRST+:2*MEMBERS]), .set_number(semaphore_number[12*FIRST+:12*MEMBERS]),
      .set_count(semaphore_count[16*FIRST+:16*MEMBERS]), .one(group_one[GROUP_COUNT*g+:GROUP_COUNT]),
      .two(group_two[GROUP_COUNT*g+:GROUP_COUNT])
    );

    front_rendezvous #(.CORES(MEMBERS), .CYCLES(BARRIER_CYCLES + GROUP_CYCLES)) u_barrier (
      .clk(clk), .rst(rst), .members(active[FIRST+:MEMBERS]), .arrive(group_arrive[FIRST+:MEMBERS]), .go(group_go[g])
    );
  end

  front_semaphores #(
    .FIRST(LAUNCH_FIRST), .COUNT(LAUNCH_COUNT), .CLIENTS(6 * CORES), .SETTERS(2 * CORES),
    .DELAY(SET_TO_VISIBLE + LAUNCH_CYCLES)
  ) u_semaphores (
    .clk(clk), .rst(rst), .signals(launch_signals), .take0(take0), .take1(take1), .set(semaphore_set),
    .set_number(semaphore_number), .set_count(semaphore_count), .one(launch_one), .two(launch_two)
  );

  front_rendezvous #(.CORES(CORES), .CYCLES(BARRIER_CYCLES + LAUNCH_CYCLES)) u_barrier (
    .clk(clk), .rst(rst), .members(active), .arrive(launch_arrive), .go(launch_go)
  );
endmodule : front_cores
