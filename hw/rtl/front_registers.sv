// Scalar registers and what calculates with them: 16 of 64 bits, signed, wrapping.
module front_registers (
  input  logic clk,
  input  logic rst,
  input  logic calculate,
  input  logic load,                 // rd = the loaded word, sign-extended; over `calculate`
  input  logic [7:0] opcode,
  input  logic [3:0] rd,
  input  logic [3:0] ra,
  input  logic [3:0] rb,
  input  logic [47:0] immediate,
  input  logic [31:0] loaded,
  output logic [1023:0] registers,   // r at [64*r +: 64]
  output logic divides_by_zero
);
  wire [63:0] a = registers[64*ra+:64];
  wire [63:0] b = registers[64*rb+:64];

  assign divides_by_zero = (opcode == npu_isa_pkg::OP_SCDIV) & (b == 64'd0);

  // Rounds up: the quotient of magnitudes, one more when a remainder is left and the result is not negative.
  function automatic logic [63:0] divided_up(input logic [63:0] x, input logic [63:0] y);
    logic [63:0] size_x, size_y, quotient;
    logic negative, exact;
    size_x = x[63] ? -x : x;
    size_y = y[63] ? -y : y;
    negative = x[63] ^ y[63];
    quotient = y == 64'd0 ? 64'd0 : size_x / size_y;
    exact = quotient * size_y == size_x;
    divided_up = negative ? -quotient : quotient + {63'd0, ~exact};
  endfunction

  function automatic logic [63:0] result(
      input logic [7:0] op, input logic [63:0] x, input logic [63:0] y, input logic [47:0] imm);
    logic less;
    less = $signed(x) < $signed(y);
    case (op)
      npu_isa_pkg::OP_LI: result = {{16{imm[47]}}, imm};
      npu_isa_pkg::OP_SADD: result = x + y;
      npu_isa_pkg::OP_SSUB: result = x - y;
      npu_isa_pkg::OP_SMUL: result = x * y;
      npu_isa_pkg::OP_SCDIV: result = divided_up(x, y);
      npu_isa_pkg::OP_SMIN: result = less ? x : y;
      default: result = {63'd0, less};
    endcase
  endfunction

  always_ff @(posedge clk) begin
    if (rst) registers <= '0;
    else if (load) registers[64*rd+:64] <= {{32{loaded[31]}}, loaded};
    else if (calculate) registers[64*rd+:64] <= result(opcode, a, b, immediate);
  end
endmodule : front_registers
