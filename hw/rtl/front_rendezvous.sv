// Where cores meet at barriers: `go` is high CYCLES after the last of the `members` has arrived. A core arrives for one cycle.
module front_rendezvous #(
  parameter int CORES = 1,
  parameter int CYCLES = 0
) (
  input  logic clk,
  input  logic rst,
  input  logic [CORES-1:0] members,
  input  logic [CORES-1:0] arrive,
  output logic go
);
  localparam logic [31:0] AFTER = CYCLES;

  logic [CORES-1:0] waiting;
  logic [31:0] left;    // cycles until they go on, 0 when not all are there

  wire [CORES-1:0] here = waiting | arrive;
  wire all_here = (|arrive) & ((members & ~here) == '0);

  assign go = AFTER == 32'd0 ? all_here : left == 32'd1;

  always_ff @(posedge clk) begin
    if (rst) begin
      waiting <= '0;
      left <= 32'd0;
    end else begin
      waiting <= all_here ? '0 : here;
      if (all_here) left <= AFTER;
      else if (left != 32'd0) left <= left - 32'd1;
    end
  end
endmodule : front_rendezvous
