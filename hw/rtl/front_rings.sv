// Rings: 16 of them, each with the slot that its producer and the one that its consumer comes to next.
//
// The slots are the running counts modulo the number of slots. `advance` moves on the producer of every ring whose ready
// semaphore is among the sets, and the consumer of every ring whose free semaphore is; those are numbers + 1, 0 for none.
module front_rings (
  input  logic clk,
  input  logic rst,
  input  logic define,
  input  logic [3:0] index,
  input  logic [31:0] slot_bytes,
  input  logic [7:0] slots,
  input  logic [5:0] ready,
  input  logic [5:0] free,
  input  logic advance,
  input  logic [5:0] set0,
  input  logic [5:0] set1,
  input  logic [15:0] read_ring,    // of port i at [4*i +: 4]
  input  logic [7:0] read_role,     // at [2*i +: 2]
  output logic [159:0] offset,      // bytes from the ring's base to the slot, at [40*i +: 40]; 0 without a role
  output logic [3:0] defined
);
  logic [15:0] known;
  logic [31:0] bytes [16];
  logic [7:0] most [16];            // the number of the last slot
  logic [5:0] ready_of [16];
  logic [5:0] free_of [16];
  logic [7:0] producer [16];
  logic [7:0] consumer [16];

  for (genvar i = 0; i < 4; i++) begin : g_port
    wire [3:0] at = read_ring[4*i+:4];
    wire [1:0] role = read_role[2*i+:2];
    wire [7:0] slot = role == front_pkg::ROLE_PRODUCER ? producer[at] : consumer[at];
    wire used = role != 2'd0;
    wire [39:0] to_slot = used ? {32'd0, slot} * {8'd0, bytes[at]} : 40'd0;
    assign defined[i] = ~used | known[at];
  end

  assign offset = {g_port[3].to_slot, g_port[2].to_slot, g_port[1].to_slot, g_port[0].to_slot};

  function automatic logic is_set(input logic [5:0] number, input logic [5:0] a, input logic [5:0] b);
    is_set = (number + 6'd1 == a) | (number + 6'd1 == b);
  endfunction

  function automatic logic [7:0] after(input logic [7:0] slot, input logic [7:0] last_slot);
    after = slot == last_slot ? 8'd0 : slot + 8'd1;
  endfunction

  always_ff @(posedge clk) begin
    if (rst) begin
      known <= '0;
    end else if (define) begin
      known[index] <= 1'b1;
      bytes[index] <= slot_bytes;
      most[index] <= slots - 8'd1;
      ready_of[index] <= ready;
      free_of[index] <= free;
      producer[index] <= 8'd0;
      consumer[index] <= 8'd0;
    end else if (advance) begin
      for (int i = 0; i < 16; i++) begin
        if (known[i] & is_set(ready_of[i], set0, set1)) producer[i] <= after(producer[i], most[i]);
        if (known[i] & is_set(free_of[i], set0, set1)) consumer[i] <= after(consumer[i], most[i]);
      end
    end
  end
endmodule : front_rings
