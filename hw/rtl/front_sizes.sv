// The size table: 64 entries, one written a cycle, eight values read. Entries are evaluated when they are used.
module front_sizes (
  input  logic clk,
  input  logic rst,
  input  logic define,
  input  logic [5:0] index,
  input  logic [front_pkg::SIZE_BITS-1:0] entry,
  input  logic [47:0] read_index,   // that of port i at [6*i +: 6]
  input  logic [255:0] counters,
  input  logic [7:0] last,
  input  logic [7:0] open,
  input  logic [1023:0] registers,
  output logic [255:0] value,       // of port i at [32*i +: 32]
  output logic [7:0] varies,
  output logic [7:0] unanchored,
  output logic [7:0] defined
);
  logic [front_pkg::SIZE_BITS-1:0] entries [64];
  logic [63:0] known;

  for (genvar i = 0; i < 8; i++) begin : g_port
    wire [5:0] at = read_index[6*i+:6];
    wire [31:0] result;
    front_size u_size (
      .fields(entries[at]),
      .counters(counters),
      .last(last),
      .open(open),
      .registers(registers),
      .value(result),
      .varies(varies[i]),
      .unanchored(unanchored[i])
    );
    assign defined[i] = known[at];
  end

  assign value = {g_port[7].result, g_port[6].result, g_port[5].result, g_port[4].result, g_port[3].result,
                  g_port[2].result, g_port[1].result, g_port[0].result};

  always_ff @(posedge clk) begin
    if (rst) begin
      known <= '0;
    end else if (define) begin
      known[index] <= 1'b1;
      entries[index] <= entry;
    end
  end
endmodule : front_sizes
