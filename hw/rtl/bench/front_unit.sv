// A unit of the bench: takes what time it is told to, instruction by instruction, and signals sets at completion.
//
// Starts one instruction in a cycle in which it is ready; `duration` is that of the next one: occupancy (at least 1) in the low
// half, latency above it. `occupied_until` and `done` are of the one that starts now. An instruction completes in order:
// in `done`, the cycle in which its sets stand in `signals`.
module front_unit #(
  parameter int FLIGHTS = 1024
) (
  input  logic clk,
  input  logic rst,
  input  logic [31:0] now,
  input  logic issue_valid,
  output logic issue_ready,
  input  logic [5:0] set0,
  input  logic [5:0] set1,
  input  logic [63:0] duration,
  output logic starts,
  output logic [31:0] occupied_until,
  output logic [31:0] done,
  output logic completed,
  output logic overrun,
  output logic [front_pkg::SEMAPHORES*front_pkg::SIGNAL_BITS-1:0] signals
);
  localparam int WIDTH = front_pkg::SIGNAL_BITS;
  localparam logic [31:0] MOST = FLIGHTS;

  logic [43:0] flights [FLIGHTS];   // done, set1, set0
  logic [31:0] first;
  logic [31:0] count;
  logic [31:0] free;
  logic [31:0] last_done;

  assign issue_ready = now >= free;
  assign starts = issue_valid & issue_ready;
  assign occupied_until = now + duration[31:0];
  wire [31:0] own_done = occupied_until + duration[63:32];
  assign done = own_done > last_done ? own_done : last_done;
  assign completed = last_done <= now;
  assign overrun = count == MOST;

  // How many complete now: the first ones whose cycle has come.
  function automatic logic [31:0] due(input logic [31:0] at, input logic [31:0] many, input logic [31:0] cycle);
    due = 32'd0;
    while (due < many && flights[(at+due)%MOST][43:12] <= cycle) due = due + 32'd1;
  endfunction

  function automatic logic [front_pkg::SEMAPHORES*WIDTH-1:0] signalled(input logic [31:0] at, input logic [31:0] many);
    logic [43:0] flight;
    signalled = '0;
    for (int i = 0; i < many; i++) begin
      flight = flights[(at+i)%MOST];
      if (flight[5:0] != 6'd0) signalled[WIDTH*(flight[5:0]-1)+:WIDTH] = signalled[WIDTH*(flight[5:0]-1)+:WIDTH] + 1'b1;
      if (flight[11:6] != 6'd0) signalled[WIDTH*(flight[11:6]-1)+:WIDTH] = signalled[WIDTH*(flight[11:6]-1)+:WIDTH] + 1'b1;
    end
  endfunction

  wire [31:0] completing = due(first, count, now);
  assign signals = signalled(first, completing);

  always_ff @(posedge clk) begin
    if (rst) begin
      first <= 32'd0;
      count <= 32'd0;
      free <= 32'd0;
      last_done <= 32'd0;
    end else begin
      first <= (first + completing) % MOST;
      count <= count - completing + {31'd0, starts};
      if (starts) begin
        flights[(first+count)%MOST] <= {done, set1, set0};
        free <= occupied_until;
        last_done <= done;
      end
    end
  end
endmodule : front_unit
