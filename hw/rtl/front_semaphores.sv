// Counted semaphores FIRST to FIRST + COUNT - 1, seen by CLIENTS units.
//
// A client signals in `signals` how often each semaphore counts up, in the cycle in which it completes: waits see it DELAY
// cycles later. Takes count down at once. `set` gives semaphore number `set_number` a new count, seen in the next cycle,
// and drops what was signalled until now, on its way included. Numbers that clients name are of all semaphores, + 1.
module front_semaphores #(
  parameter int FIRST = 0,
  parameter int COUNT = 40,
  parameter int CLIENTS = 6,
  parameter int SETTERS = 1,
  parameter int DELAY = 1
) (
  input  logic clk,
  input  logic rst,
  input  logic [front_pkg::SIGNAL_BITS*COUNT*CLIENTS-1:0] signals,
  input  logic [6*CLIENTS-1:0] take0,
  input  logic [6*CLIENTS-1:0] take1,
  input  logic [SETTERS-1:0] set,         // two counts may be set at once: those of a ring
  input  logic [6*SETTERS-1:0] set_number,
  input  logic [8*SETTERS-1:0] set_count,
  output logic [COUNT-1:0] one,           // the count is at least 1
  output logic [COUNT-1:0] two            // at least 2
);
  localparam int WIDTH = front_pkg::SIGNAL_BITS;
  localparam int BITS = 16;
  localparam logic [31:0] BELOW = FIRST + 1;
  localparam logic [31:0] MANY = COUNT;

  logic [BITS*COUNT-1:0] counts;
  logic [WIDTH*COUNT-1:0] arriving;

  for (genvar s = 0; s < COUNT; s++) begin : g_semaphore
    wire [BITS-1:0] value = counts[BITS*s+:BITS];
    assign one[s] = value != '0;
    assign two[s] = value > {{BITS - 1{1'b0}}, 1'b1};
  end

  function automatic logic [WIDTH*COUNT-1:0] total(input logic [WIDTH*COUNT*CLIENTS-1:0] all);
    total = '0;
    for (int c = 0; c < CLIENTS; c++)
      if (|all[WIDTH*COUNT*c+:WIDTH*COUNT])
        for (int s = 0; s < COUNT; s++)
          total[WIDTH*s+:WIDTH] = total[WIDTH*s+:WIDTH] + all[WIDTH*(COUNT*c+s)+:WIDTH];
  endfunction

  // What is on its way, but for semaphores that get a new count.
  function automatic logic [WIDTH*COUNT-1:0] without(
      input logic [WIDTH*COUNT-1:0] coming, input logic [SETTERS-1:0] enabled, input logic [6*SETTERS-1:0] number_of);
    logic [31:0] at_index;
    without = coming;
    for (int i = 0; i < SETTERS; i++) begin
      at_index = {26'd0, number_of[6*i+:6]} - BELOW;
      if (enabled[i] && at_index < MANY) without[WIDTH*at_index+:WIDTH] = '0;
    end
  endfunction

  if (DELAY == 1) begin : g_direct
    assign arriving = total(signals);
  end else begin : g_delayed
    // What is signalled now is read DELAY - 1 cycles later, when the pointer has come round.
    localparam int STAGES = DELAY - 1;
    localparam logic [31:0] LAST = STAGES - 1;
    logic [WIDTH*COUNT-1:0] stages [STAGES];
    logic [STAGES-1:0] written;
    wire signalled = |signals;
    logic [31:0] at;
    assign arriving = written[at] ? stages[at] : '0;
    always_ff @(posedge clk) begin
      if (rst) begin
        at <= 32'd0;
        written <= '0;
      end else begin
        at <= at == LAST ? 32'd0 : at + 32'd1;
        written[at] <= signalled;
        if (|set) for (int i = 0; i < STAGES; i++) stages[i] <= without(stages[i], set, set_number);
        if (signalled) stages[at] <= without(total(signals), set, set_number);
      end
    end
  end

  function automatic logic [BITS*COUNT-1:0] moved(
      input logic [BITS*COUNT-1:0] old, input logic [WIDTH*COUNT-1:0] up, input logic [6*CLIENTS-1:0] down0,
      input logic [6*CLIENTS-1:0] down1);
    logic [31:0] at_index;
    moved = old;
    if (|up)
      for (int s = 0; s < COUNT; s++)
        moved[BITS*s+:BITS] = moved[BITS*s+:BITS] + {{BITS - WIDTH{1'b0}}, up[WIDTH*s+:WIDTH]};
    for (int i = 0; i < 2 * CLIENTS; i++) begin
      // Numbers below the first one come out far above the last.
      at_index = {26'd0, i < CLIENTS ? down0[6*i+:6] : down1[6*(i-CLIENTS)+:6]} - BELOW;
      if (at_index < MANY) moved[BITS*at_index+:BITS] = moved[BITS*at_index+:BITS] - 1'b1;
    end
  endfunction

  function automatic logic [BITS*COUNT-1:0] replaced(
      input logic [BITS*COUNT-1:0] old, input logic [SETTERS-1:0] enabled, input logic [6*SETTERS-1:0] number_of,
      input logic [8*SETTERS-1:0] count_of);
    logic [31:0] at_index;
    replaced = old;
    for (int i = 0; i < SETTERS; i++) begin
      at_index = {26'd0, number_of[6*i+:6]} - BELOW;
      if (enabled[i] && at_index < MANY) replaced[BITS*at_index+:BITS] = {{BITS - 8{1'b0}}, count_of[8*i+:8]};
    end
  endfunction

  // As wires, so that a simulator need not look at all of them in every cycle.
  wire changes = (|arriving) | (|take0) | (|set);

  always_ff @(posedge clk) begin
    if (rst) counts <= '0;
    else if (changes)
      counts <= replaced(moved(counts, arriving, take0, take1), set, set_number, set_count);
  end
endmodule : front_semaphores
