// What the cores of a launch share: the semaphores of each group and of the launch, and the barriers of these scopes.
//
// CORES cores in groups of GROUP_CORES; those that are not `active` take no part. Slice c of a port belongs to core c, and
// goes to the port of that name of its front_stage; in `signals` every unit has the semaphores of all scopes.
module front_shared #(
  parameter int CORES = 1,
  parameter int GROUP_CORES = 1,
  parameter int BARRIER_CYCLES = 0,
  parameter int SET_TO_VISIBLE = 1,
  parameter int GROUP_CYCLES = 0,
  parameter int LAUNCH_CYCLES = 0
) (
  input  logic clk,
  input  logic rst,
  input  logic [CORES-1:0] active,
  input  logic [6*front_pkg::SHARED*front_pkg::SIGNAL_BITS*CORES-1:0] signals,
  input  logic [36*CORES-1:0] take0,
  input  logic [36*CORES-1:0] take1,
  input  logic [2*CORES-1:0] semaphore_set,
  input  logic [12*CORES-1:0] semaphore_number,
  input  logic [16*CORES-1:0] semaphore_count,
  input  logic [CORES-1:0] group_arrive,
  input  logic [CORES-1:0] launch_arrive,
  output logic [front_pkg::SHARED*CORES-1:0] shared_one,
  output logic [front_pkg::SHARED*CORES-1:0] shared_two,
  output logic [CORES-1:0] group_go,
  output logic launch_go
);
  localparam int WIDTH = front_pkg::SIGNAL_BITS;
  localparam int BOTH = front_pkg::SHARED;
  localparam int GROUPS = (CORES + GROUP_CORES - 1) / GROUP_CORES;
  localparam int GROUP_FIRST = npu_isa_pkg::SEMAPHORES_GROUP_FIRST;
  localparam int GROUP_COUNT = npu_isa_pkg::SEMAPHORES_GROUP_LAST + 1 - GROUP_FIRST;
  localparam int LAUNCH_FIRST = npu_isa_pkg::SEMAPHORES_LAUNCH_FIRST;
  localparam int LAUNCH_COUNT = npu_isa_pkg::SEMAPHORES_LAUNCH_LAST + 1 - LAUNCH_FIRST;

  wire [LAUNCH_COUNT-1:0] launch_one, launch_two;
  wire [6*LAUNCH_COUNT*WIDTH*CORES-1:0] launch_signals;

  for (genvar i = 0; i < 6 * CORES; i++) begin : g_client
    assign launch_signals[LAUNCH_COUNT*WIDTH*i+:LAUNCH_COUNT*WIDTH] =
        signals[WIDTH*(BOTH*i+GROUP_COUNT)+:WIDTH*LAUNCH_COUNT];
  end

  for (genvar g = 0; g < GROUPS; g++) begin : g_group
    localparam int FIRST = g * GROUP_CORES;
    localparam int MEMBERS = FIRST + GROUP_CORES <= CORES ? GROUP_CORES : CORES - FIRST;
    wire [GROUP_COUNT-1:0] one, two;
    wire [6*GROUP_COUNT*WIDTH*MEMBERS-1:0] of_group;
    wire go;

    for (genvar i = 0; i < 6 * MEMBERS; i++) begin : g_client
      assign of_group[GROUP_COUNT*WIDTH*i+:GROUP_COUNT*WIDTH] = signals[WIDTH*BOTH*(6*FIRST+i)+:WIDTH*GROUP_COUNT];
    end

    front_semaphores #(
      .FIRST(GROUP_FIRST), .COUNT(GROUP_COUNT), .CLIENTS(6 * MEMBERS), .SETTERS(2 * MEMBERS),
      .DELAY(SET_TO_VISIBLE + GROUP_CYCLES)
    ) u_semaphores (
      .clk(clk), .rst(rst), .signals(of_group), .take0(take0[36*FIRST+:36*MEMBERS]),
      .take1(take1[36*FIRST+:36*MEMBERS]), .set(semaphore_set[2*FIRST+:2*MEMBERS]),
      .set_number(semaphore_number[12*FIRST+:12*MEMBERS]), .set_count(semaphore_count[16*FIRST+:16*MEMBERS]),
      .one(one), .two(two)
    );

    front_rendezvous #(.CORES(MEMBERS), .CYCLES(BARRIER_CYCLES + GROUP_CYCLES)) u_barrier (
      .clk(clk), .rst(rst), .members(active[FIRST+:MEMBERS]), .arrive(group_arrive[FIRST+:MEMBERS]), .go(go)
    );

    for (genvar c = FIRST; c < FIRST + MEMBERS; c++) begin : g_core
      assign shared_one[BOTH*c+:BOTH] = {launch_one, one};
      assign shared_two[BOTH*c+:BOTH] = {launch_two, two};
      assign group_go[c] = go;
    end
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
endmodule : front_shared
