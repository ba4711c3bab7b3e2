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
  localparam int ALL = front_pkg::SEMAPHORES;

  logic [31:0] done_of [FLIGHTS];
  logic [11:0] sets_of [FLIGHTS];
  int first;
  int count;
  logic [31:0] free;
  logic [31:0] last_done;

  assign issue_ready = now >= free;
  assign starts = issue_valid & issue_ready;
  assign occupied_until = now + duration[31:0];
  wire [31:0] own_done = occupied_until + duration[63:32];
  assign done = own_done > last_done ? own_done : last_done;
  assign completed = last_done <= now;
  assign overrun = count == FLIGHTS;

  function automatic logic [ALL*WIDTH-1:0] with_sets(input logic [ALL*WIDTH-1:0] others, input logic [11:0] sets);
    logic [31:0] number;
    with_sets = others;
    for (int i = 0; i < 2; i++) begin
      number = {26'd0, sets[6*i+:6]};
      if (number != 32'd0) with_sets[WIDTH*(number-1)+:WIDTH] = with_sets[WIDTH*(number-1)+:WIDTH] + 1'b1;
    end
  endfunction

  // What completes in the next cycle is collected at the end of this one; nothing but this process reads or writes the flights.
  logic [ALL*WIDTH-1:0] completing;

  /* verilator lint_off BLKSEQ */
  always @(posedge clk) begin
    if (rst) begin
      first = 0;
      count = 0;
      free <= 32'd0;
      last_done <= 32'd0;
      signals <= '0;
    end else begin
      if (starts) begin
        done_of[(first+count)%FLIGHTS] = done;
        sets_of[(first+count)%FLIGHTS] = {set1, set0};
        count = count + 1;
        free <= occupied_until;
        last_done <= done;
      end
      completing = '0;
      if (count != 0)
        while (count != 0 && done_of[first] <= now + 32'd1) begin
          completing = with_sets(completing, sets_of[first]);
          first = (first + 1) % FLIGHTS;
          count = count - 1;
        end
      if (completing != signals) signals <= completing;
    end
  end
  /* verilator lint_on BLKSEQ */
endmodule : front_unit
