// The value of one entry of the size table, for the counters and the register of this cycle.
module front_size (
  input  logic [front_pkg::SIZE_BITS-1:0] fields,
  input  logic [255:0] counters,   // that of loop l at [32*l +: 32], 0 for a loop that is not open
  input  logic [7:0] last,
  input  logic [7:0] open,
  input  logic [1023:0] registers,
  output logic [31:0] value,
  output logic varies,             // it depends on counters
  output logic unanchored          // a tail whose loop is not open
);
  import front_pkg::*;

  size_t entry;
  assign entry = fields;

  wire [63:0] full = {32'd0, entry.full};
  wire [63:0] base = {{32{entry.base[31]}}, entry.base};
  wire [63:0] step_a = {{32{entry.step_a[31]}}, entry.step_a};
  wire [63:0] step_b = {{32{entry.step_b[31]}}, entry.step_b};
  wire [63:0] counter_a = {32'd0, counters[32*entry.loop_a+:32]};
  wire [63:0] counter_b = {32'd0, counters[32*entry.loop_b+:32]};
  wire [63:0] affine = base + step_a * counter_a + step_b * counter_b;
  wire [63:0] unclamped = entry.kind == SIZE_AFFINE ? affine : registers[64*entry.reg_index+:64];
  wire negative = unclamped[63];
  wire above = ~negative & (unclamped > full);
  wire [31:0] clamped = negative ? 32'd0 : above ? entry.full : unclamped[31:0];
  wire is_tail = entry.kind == SIZE_TAIL;
  wire is_const = entry.kind == SIZE_CONST;
  wire moves = (entry.step_a != 32'd0) | (entry.step_b != 32'd0);

  assign value = is_tail ? (last[entry.loop_a] ? entry.base : entry.full) : is_const ? entry.full : clamped;
  assign varies = is_tail | ((entry.kind == SIZE_AFFINE) & moves);
  assign unanchored = is_tail & ~open[entry.loop_a];
endmodule : front_size
