// The descriptor table and the address generators: 256 descriptors, each with eight strides and perhaps a window.
//
// `define` writes a descriptor and clears its strides and its window; `add_stride` adds to a stride; `set_window` gives it a
// window. Four tiles are read: address = base + strides x counters + register x its stride + offset of the ring's slot.
module front_descriptors (
  input  logic clk,
  input  logic rst,
  input  logic define,
  input  logic add_stride,
  input  logic set_window,
  input  logic [7:0] index,
  input  logic [front_pkg::DESCRIPTOR_BITS-1:0] descriptor,
  input  logic [2:0] stride_loop,
  input  logic [47:0] stride,
  input  logic [front_pkg::WINDOW_BITS-1:0] window,
  input  logic [31:0] read_index,     // of port i at [8*i +: 8]
  input  logic [3:0] read_valid,      // tiles that the instruction has
  input  logic [255:0] counters,
  input  logic [1023:0] registers,
  input  logic [159:0] slot_offset,   // at [40*i +: 40]
  output logic index_defined,
  output logic index_global,          // descriptor `index` is in global memory
  output logic [15:0] ring,
  output logic [7:0] role,
  output logic [2:0] space,           // of the first tile
  output logic [255:0] address,
  output logic [127:0] pitch,
  output logic [31:0] row,            // of the windowed tile
  output logic [31:0] col,
  output logic [63:0] extent,
  output logic [3:0] defined
);
  import front_pkg::*;

  logic [DESCRIPTOR_BITS-1:0] descriptors [256];
  logic [WINDOW_BITS-1:0] windows [256];
  logic [255:0] known;
  logic [255:0] windowed;
  logic [511:0] strides [256];        // 64 bits for each loop

  // The space is the first field.
  wire [2:0] index_space = descriptors[index][DESCRIPTOR_BITS-1-:3];
  assign index_defined = known[index];
  assign index_global = index_space == npu_isa_pkg::SPACE_GM;

  wire [3:0] has_window;

  for (genvar i = 0; i < 4; i++) begin : g_port
    wire [7:0] at = read_index[8*i+:8];
    wire [511:0] steps = strides[at];
    /* verilator lint_off UNUSEDSIGNAL */
    descriptor_t found;  // the space of the first tile alone is looked at
    /* verilator lint_on UNUSEDSIGNAL */
    window_t frame;
    assign found = descriptors[at];
    assign frame = windows[at];
    for (genvar l = 0; l < 8; l++) begin : g_loop
      wire [63:0] moved = steps[64*l+:64] * {32'd0, counters[32*l+:32]};
    end
    wire [63:0] by_loops = g_loop[0].moved + g_loop[1].moved + g_loop[2].moved + g_loop[3].moved
        + g_loop[4].moved + g_loop[5].moved + g_loop[6].moved + g_loop[7].moved;
    wire [63:0] register_stride = {{32{found.reg_stride[31]}}, found.reg_stride};
    wire [63:0] by_register = registers[64*found.reg_index+:64] * register_stride;
    wire [63:0] sum = {16'd0, found.base} + by_loops + by_register + {24'd0, slot_offset[40*i+:40]};
    assign defined[i] = ~read_valid[i] | known[at];
    assign ring[4*i+:4] = found.ring;
    assign role[2*i+:2] = read_valid[i] ? found.role : 2'd0;
    wire [63:0] place = read_valid[i] ? sum : 64'd0;
    wire [31:0] row_step = read_valid[i] ? found.pitch : 32'd0;
    assign has_window[i] = read_valid[i] & windowed[at];
    wire [31:0] row_at = frame.row0 + frame.row_step * counters[32*frame.row_loop+:32];
    wire [31:0] col_at = frame.col0 + frame.col_step * counters[32*frame.col_loop+:32];
    wire [127:0] origin = has_window[i] ? {frame.cols, frame.rows, col_at, row_at} : 128'd0;
  end

  assign space = g_port[0].found.space;
  assign address = {g_port[3].place, g_port[2].place, g_port[1].place, g_port[0].place};
  assign pitch = {g_port[3].row_step, g_port[2].row_step, g_port[1].row_step, g_port[0].row_step};

  // One operand at most has a window: that in global memory.
  assign {extent, col, row} = g_port[0].origin | g_port[1].origin | g_port[2].origin | g_port[3].origin;

  function automatic logic [511:0] with_stride(
      input logic [511:0] old, input logic [2:0] loop, input logic [47:0] more);
    with_stride = old;
    with_stride[64*loop+:64] = old[64*loop+:64] + {{16{more[47]}}, more};
  endfunction

  always_ff @(posedge clk) begin
    if (rst) begin
      known <= '0;
      windowed <= '0;
    end else if (define) begin
      known[index] <= 1'b1;
      windowed[index] <= 1'b0;
      descriptors[index] <= descriptor;
      strides[index] <= '0;
    end else if (add_stride) begin
      strides[index] <= with_stride(strides[index], stride_loop, stride);
    end else if (set_window) begin
      windowed[index] <= 1'b1;
      windows[index] <= window;
    end
  end
endmodule : front_descriptors
