// The queue in front of a unit: DEPTH instructions, in order, the one at the head included until it starts.
//
// Ready/valid on both sides. `issue_valid` is high when the head may start: all its waits are there, and with the order bit
// everything before it has completed. It starts in the cycle in which the unit is ready as well, and takes its semaphores.
module front_queue #(
  parameter int DEPTH = 4
) (
  input  logic clk,
  input  logic rst,
  input  logic push_valid,
  output logic push_ready,
  input  logic [front_pkg::DISPATCH_BITS-1:0] push,
  input  logic [front_pkg::SEMAPHORES-1:0] one,
  input  logic [front_pkg::SEMAPHORES-1:0] two,
  output logic issue_valid,
  input  logic issue_ready,
  output logic [front_pkg::DISPATCH_BITS-1:0] issue,
  input  logic completed,             // of the unit: nothing is under way
  output logic [5:0] take0,           // semaphore + 1, 0 for none
  output logic [5:0] take1,
  output logic empty
);
  import front_pkg::*;

  localparam logic [31:0] SIZE = DEPTH;

  logic [DISPATCH_BITS-1:0] entries [DEPTH];
  logic [31:0] count;
  logic [31:0] first;
  logic [31:0] free;

  assign empty = count == 32'd0;
  assign issue = entries[first];

  // Of the instruction only its synchronisation is looked at here.
  /* verilator lint_off UNUSEDSIGNAL */
  dispatch_t oldest;
  /* verilator lint_on UNUSEDSIGNAL */
  assign oldest = issue;

  // Bit 0 stands for "no wait".
  wire [63:0] have_one = {one, 1'b1};
  wire [63:0] have_two = {two, 1'b1};
  wire same = oldest.wait0 == oldest.wait1;
  wire waits_met = have_one[oldest.wait0] & (same ? have_two[oldest.wait1] : have_one[oldest.wait1]);
  wire start = issue_valid & issue_ready;

  assign issue_valid = ~empty & waits_met & (~oldest.order | completed);
  assign push_ready = (count != SIZE) | start;
  assign take0 = start ? oldest.wait0 : 6'd0;
  assign take1 = start ? oldest.wait1 : 6'd0;

  wire pushes = push_valid & push_ready;

  always_ff @(posedge clk) begin
    if (rst) begin
      count <= 32'd0;
      first <= 32'd0;
      free <= 32'd0;
    end else begin
      count <= count + {31'd0, pushes} - {31'd0, start};
      if (start) first <= first + 32'd1 == SIZE ? 32'd0 : first + 32'd1;
      if (pushes) begin
        free <= free + 32'd1 == SIZE ? 32'd0 : free + 32'd1;
        entries[free] <= push;
      end
    end
  end
endmodule : front_queue
