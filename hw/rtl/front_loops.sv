// Loop counters, the stack of open loops, and the odometer of the grid.
//
// `enter_loop` opens loop `loop` with `trip` (not 0) iterations and its body at `body`; `enter_grid` opens loops 0 to `count` - 1
// at tile `start` of the tiles up to `stop` (exclusive, above `start`), the last loop fastest. `close` is the end of an
// iteration of what was opened last: with `again` it goes on at `target`, else it is closed and its counters read 0.
module front_loops (
  input  logic clk,
  input  logic rst,
  input  logic enter_loop,
  input  logic enter_grid,
  input  logic close,
  input  logic [2:0] loop,
  input  logic [31:0] trip,
  input  logic [31:0] body,
  input  logic [3:0] count,
  input  logic [255:0] grid_trips,    // of loop l at [32*l +: 32]
  input  logic [63:0] start,
  input  logic [63:0] stop,
  output logic [255:0] counters,      // of loop l at [32*l +: 32], 0 when it is not open
  output logic [7:0] open,
  output logic [7:0] zero,
  output logic [7:0] last,
  output logic nested,                // something is open
  output logic innermost_grid,        // and it is the grid
  output logic again,
  output logic [31:0] target,
  output logic in_grid,
  output logic first_tile,
  output logic last_tile,
  output logic [7:0] changed,
  output logic [7:0] changes
);
  logic [255:0] trips;
  logic [3:0] depth;
  logic [31:0] bodies [8];
  logic [2:0] numbers [8];
  logic [7:0] grid_loops;
  logic [31:0] grid_body;
  logic [63:0] tile;
  logic [63:0] tiles_end;

  // The grid, when there is one, is the outermost.
  wire [2:0] top = depth[2:0] - 3'd1;
  wire [2:0] innermost = numbers[top];
  wire [31:0] counter = counters[32*innermost+:32];

  assign nested = in_grid | (depth != 4'd0);
  assign innermost_grid = in_grid & (depth == 4'd0);
  assign last_tile = tile + 64'd1 == tiles_end;
  assign again = innermost_grid ? ~last_tile : ~last[innermost];
  assign target = innermost_grid ? grid_body : bodies[top];

  // Loop l of the grid moves when all faster ones, those above it, are in their last iteration.
  wire [8:0] moves;
  wire [7:0] single;
  assign moves[8] = 1'b1;
  for (genvar l = 0; l < 8; l++) begin : g_loop
    assign zero[l] = counters[32*l+:32] == 32'd0;
    assign last[l] = counters[32*l+:32] + 32'd1 == trips[32*l+:32];
    assign single[l] = trips[32*l+:32] == 32'd1;
    assign moves[l] = &(~grid_loops[7:l] | last[7:l]);
    // One with a single iteration comes round to itself.
    assign changes[l] = grid_loops[l] & moves[l+1] & ~single[l];
  end

  function automatic logic [255:0] at_tile(input logic [63:0] index, input logic [3:0] loops, input logic [255:0] trip_of);
    logic [63:0] left, size;
    left = index;
    at_tile = '0;
    for (int l = 7; l >= 0; l--) begin
      size = {32'd0, trip_of[32*l+:32]};
      if (l < {28'd0, loops} && size != 64'd0) begin
        at_tile[32*l+:32] = 32'(left % size);
        left = left / size;
      end
    end
  endfunction

  function automatic logic [255:0] only(input logic [255:0] values, input logic [7:0] loops);
    for (int l = 0; l < 8; l++) only[32*l+:32] = loops[l] ? values[32*l+:32] : 32'd0;
  endfunction

  function automatic logic [255:0] next_tile(input logic [255:0] old, input logic [8:0] moving, input logic [7:0] loops,
                                             input logic [7:0] wraps);
    next_tile = old;
    for (int l = 0; l < 8; l++)
      if (loops[l] & moving[l+1]) next_tile[32*l+:32] = wraps[l] ? 32'd0 : old[32*l+:32] + 32'd1;
  endfunction

  wire [7:0] entered = ~(8'hff << count);

  always_ff @(posedge clk) begin
    if (rst) begin
      counters <= '0;
      trips <= '0;
      open <= '0;
      depth <= '0;
      in_grid <= 1'b0;
      grid_loops <= '0;
      first_tile <= 1'b0;
      changed <= '0;
      tile <= '0;
      tiles_end <= '0;
    end else if (enter_grid) begin
      counters <= at_tile(start, count, grid_trips);
      trips <= only(grid_trips, entered);
      open <= entered;
      grid_loops <= entered;
      grid_body <= body;
      in_grid <= 1'b1;
      first_tile <= 1'b1;
      changed <= '0;
      tile <= start;
      tiles_end <= stop;
    end else if (enter_loop) begin
      counters[32*loop+:32] <= 32'd0;
      trips[32*loop+:32] <= trip;
      open[loop] <= 1'b1;
      bodies[depth[2:0]] <= body;
      numbers[depth[2:0]] <= loop;
      depth <= depth + 4'd1;
    end else if (close & innermost_grid) begin
      first_tile <= 1'b0;
      changed <= changes;
      tile <= tile + 64'd1;
      if (again) begin
        counters <= next_tile(counters, moves, grid_loops, last);
      end else begin
        counters <= '0;
        trips <= '0;
        open <= '0;
        grid_loops <= '0;
        in_grid <= 1'b0;
      end
    end else if (close) begin
      if (again) begin
        counters[32*innermost+:32] <= counter + 32'd1;
      end else begin
        counters[32*innermost+:32] <= 32'd0;
        trips[32*innermost+:32] <= 32'd0;
        open[innermost] <= 1'b0;
        depth <= depth - 4'd1;
      end
    end
  end
endmodule : front_loops
