// Gathers the words of one instruction from the prefetch buffer, each in DECODE_CYCLES cycles in which `advance` is high.
//
// `words` holds what was gathered, and the head of the buffer after it; `last` is high in the last decode cycle. The last
// word stays in the buffer until `retire`, so that the words do not move while the instruction waits for its dispatch.
module front_gather #(
  parameter int DECODE_CYCLES = 1
) (
  input  logic clk,
  input  logic rst,
  input  logic flush,
  input  logic advance,
  input  logic retire,
  input  logic [63:0] head,
  input  logic [3:0] length,
  output logic [511:0] words,
  output logic last,
  output logic pop
);
  localparam logic [31:0] CYCLES = DECODE_CYCLES;

  logic [447:0] gathered;
  logic [2:0] at;      // index of the word at the head of the buffer
  logic [31:0] spent;  // decode cycles spent on it before this one

  wire word_ends = advance & (spent + 32'd1 == CYCLES);
  // What is no instruction has length 0 and ends with its first word.
  wire final_word = (length == 4'd0) | ({1'b0, at} + 4'd1 == length);

  assign last = word_ends & final_word;
  assign pop = retire | (word_ends & ~final_word);

  for (genvar i = 0; i < 8; i++) begin : g_word
    wire [63:0] word;
    if (i < 7) begin : g_gathered
      assign word = at == i ? head : gathered[64*i+:64];
    end else begin : g_last
      assign word = head;
    end
  end

  assign words = {g_word[7].word, g_word[6].word, g_word[5].word, g_word[4].word, g_word[3].word, g_word[2].word,
                  g_word[1].word, g_word[0].word};

  always_ff @(posedge clk) begin
    if (rst | flush | retire) begin
      at <= 3'd0;
      spent <= 32'd0;
      if (rst) gathered <= '0;
    end else if (word_ends & ~final_word) begin
      at <= at + 3'd1;
      spent <= 32'd0;
      gathered[64*at+:64] <= head;
    end else if (advance & ~last) begin
      spent <= spent + 32'd1;
    end
  end
endmodule : front_gather
