// Fetch: reads FETCH_WORDS words a cycle ahead of decoding into a buffer of PREFETCH_WORDS, as long as they have room.
//
// The memory answers a request of cycle t with `data` in cycle t + FETCH_LATENCY - 1, so that the words are in the buffer in
// t + FETCH_LATENCY. A redirect drops what is in the buffer and on its way; the next request goes out one cycle later.
// PREFETCH_WORDS >= FETCH_WORDS * (FETCH_LATENCY + 1) keeps a decoder that takes one word a cycle from starving.
module front_fetch #(
  parameter int FETCH_WORDS = 1,
  parameter int FETCH_LATENCY = 1,
  parameter int PREFETCH_WORDS = 8
) (
  input  logic clk,
  input  logic rst,
  input  logic redirect,
  input  logic [31:0] target,
  input  logic pop,
  output logic [63:0] head,
  output logic valid,
  output logic request,
  output logic [31:0] address,
  input  logic [64*FETCH_WORDS-1:0] data
);
  localparam logic [31:0] FETCH = FETCH_WORDS;
  localparam logic [31:0] ROOM = PREFETCH_WORDS;

  logic [63:0] buffer [PREFETCH_WORDS];
  logic [31:0] next;       // the word to request next
  logic [31:0] level;      // words in the buffer or on their way
  logic [31:0] count;      // words in the buffer
  logic [31:0] first;      // where the buffer begins
  logic [31:0] free;       // where its room begins
  logic [FETCH_LATENCY-1:0] flying;  // bit i: a request went out i + 1 cycles ago
  logic running;

  wire [FETCH_LATENCY:0] line = {flying, request};
  wire arrives = line[FETCH_LATENCY-1];

  assign request = running & (level + FETCH <= ROOM);
  assign address = next;
  assign head = buffer[first];
  assign valid = count != 32'd0;

  function automatic logic [31:0] wrap(input logic [31:0] position);
    wrap = position >= ROOM ? position - ROOM : position;
  endfunction

  always_ff @(posedge clk) begin
    if (rst | redirect) begin
      running <= ~rst;
      next <= target;
      level <= 32'd0;
      count <= 32'd0;
      first <= 32'd0;
      free <= 32'd0;
      flying <= '0;
    end else begin
      flying <= line[FETCH_LATENCY-1:0];
      if (request) next <= next + FETCH;
      level <= level + (request ? FETCH : 32'd0) - {31'd0, pop};
      count <= count + (arrives ? FETCH : 32'd0) - {31'd0, pop};
      if (pop) first <= wrap(first + 32'd1);
      if (arrives) begin
        free <= wrap(free + FETCH);
        for (int i = 0; i < FETCH_WORDS; i++) buffer[wrap(free + i)] <= data[64*i+:64];
      end
    end
  end
endmodule : front_fetch
